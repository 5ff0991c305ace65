// npm's `eventsource` as a subscriber, and forms as Symfony's component sends them:
// `node drive.mjs PORT PUBLISHER_TOKEN SUBSCRIBER_TOKEN`. Prints `ok NAME` for each step that went as it should, and ends with 1
// at the first that did not. The token of the subscriber is of the user ann, and grants https://example.com/private/{id}.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

// It is installed beside the driver of the browser.
const require = createRequire(new URL("../browser/package.json", import.meta.url));
const { EventSource } = require("eventsource");

const [port, publisher, subscriber] = process.argv.slice(2);
const hub = `http://127.0.0.1:${port}/.well-known/mercure`;

/** A promise that fails after a while, so that nothing is waited for in vain. */
const within = (what, promise) =>
  Promise.race([
    promise,
    new Promise((_, fail) => setTimeout(() => fail(new Error(`no ${what}`)), 20_000)),
  ]);

/** A subscriber that is connected, and a function that takes the next event. */
async function subscribe(parameters, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const source = new EventSource(`${hub}?${new URLSearchParams(parameters)}`, {
    fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...headers } }),
  });
  const [events, waiting] = [[], []];
  const take = event => (waiting.length ? waiting.shift()(event) : events.push(event));
  source.addEventListener("message", take);
  source.addEventListener("news", take);
  const next = () => within("event", events.length ? Promise.resolve(events.shift()) : new Promise(done => waiting.push(done)));
  const opened = () => within("open", new Promise(done => source.addEventListener("open", done, { once: true })));
  await opened();
  return { source, next, opened };
}

async function publish(fields) {
  const body = new URLSearchParams(fields);
  const answer = await fetch(hub, { method: "POST", body, headers: { Authorization: `Bearer ${publisher}` } });
  assert.equal(answer.status, 200, await answer.clone().text());
  assert.match(answer.headers.get("content-type"), /^text\/plain/);
  return answer.text();
}

async function step(name, run) {
  await run();
  console.log(`ok ${name}`);
}

const book = "https://example.com/books/1";

await step("an update", async () => {
  const { source, next } = await subscribe([["topic", "https://example.com/books/{id}"]]);
  const data = "two\n\nlines";
  const id = await publish([["topic", book], ["data", data], ["type", "news"], ["id", "urn:first"]]);
  const event = await next();
  assert.deepEqual([event.type, event.data, event.lastEventId], ["news", data, id]);
  const own = await publish([["topic", book], ["data", "x"]]);
  assert.equal((await next()).lastEventId, own);
  source.close();
});

await step("several topics", async () => {
  const { source, next } = await subscribe([["topic", "*"], ["topic", book]]);
  const id = await publish([["topic", "other"], ["topic", book], ["data", "1"]]);
  await publish([["topic", "end"], ["data", "2"]]);
  const [one, two] = [await next(), await next()];
  assert.deepEqual([one.data, one.lastEventId, two.data], ["1", id, "2"]);
  source.close();
});

await step("private updates", async () => {
  const stranger = await subscribe([["topic", "*"]]);
  const ann = await subscribe([["topic", "*"]], subscriber);
  await publish([["topic", "https://example.com/private/1"], ["data", "secret"], ["private", "on"]]);
  await publish([["topic", "https://example.com/others/1"], ["data", "other"], ["private", "on"]]);
  await publish([["topic", book], ["data", "public"]]);
  assert.deepEqual([(await ann.next()).data, (await ann.next()).data], ["secret", "public"]);
  assert.equal((await stranger.next()).data, "public");
  ann.source.close();
  stranger.source.close();
});

await step("a subscriber that is cut off comes back by itself", async () => {
  const ann = await subscribe([["topic", "a"]], subscriber);
  await publish([["topic", "a"], ["data", "1"], ["id", "urn:one"], ["retry", "50"]]);
  assert.equal((await ann.next()).data, "1");
  const back = ann.opened();
  const cut = await fetch(`http://127.0.0.1:${port}/disconnect?user=ann`, { method: "POST" });
  assert.equal(cut.status, 200);
  await publish([["topic", "a"], ["data", "2"]]);
  await back;
  await publish([["topic", "a"], ["data", "3"]]);
  assert.deepEqual([(await ann.next()).data, (await ann.next()).data], ["2", "3"]);
  ann.source.close();
});

await step("a subscriber that was started again goes on", async () => {
  for (const name of ["last_event_id", "lastEventID"]) {
    const { source, next } = await subscribe([["topic", "a"], [name, "urn:one"]]);
    assert.deepEqual([(await next()).data, (await next()).data], ["2", "3"]);
    source.close();
  }
});

await step("discovery and refusals", async () => {
  const page = await fetch(`http://127.0.0.1:${port}/`);
  assert.equal(page.headers.get("link"), '</.well-known/mercure>; rel="mercure"');
  for (const [query, status] of [["", 400], ["topic=a&match_other=b", 400], ["topic={", 400]]) {
    assert.equal((await fetch(`${hub}?${query}`)).status, status, query);
  }
  const unsigned = await fetch(hub, { method: "POST", body: new URLSearchParams({ topic: "a" }) });
  assert.deepEqual([unsigned.status, unsigned.headers.get("www-authenticate")], [401, "Bearer"]);
});
process.exit();
