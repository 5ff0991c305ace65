// Mercure in a real browser: node mercure.mjs WATERWHEEL CHROMIUM
//
// Prints nothing when all is well, and ends with a status other than 0 when something is not.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [program, browserPath] = process.argv.slice(2);
const DEADLINE_MS = 60_000;
const KEY = "the key of publishers and of subscribers";

const encode = value => Buffer.from(JSON.stringify(value)).toString("base64url");
function sign(claims) {
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", KEY).update(signed).digest("base64url")}`;
}

const watchdog = setTimeout(() => { console.error("too slow"); process.exit(1); }, 3 * DEADLINE_MS);

async function serve(address) {
  const keys = ["--mercure-publisher-key", KEY, "--mercure-subscriber-key", KEY, "--mercure-anonymous"];
  const server = spawn(program, ["--listen", address, "--drain-window", "0", "--log", "warn", ...keys], { stdio: ["ignore", "pipe", "inherit"] });
  process.once("exit", () => server.kill("SIGKILL"));
  const [line] = await once(createInterface({ input: server.stdout }), "line");
  return [server, line.match(/^listening on (http:\/\/\S+)$/)[1]];
}

const [server, url] = await serve("127.0.0.1:0");
const browser = await chromium.launch({ executablePath: browserPath, args: ["--no-sandbox"] });
const context = await browser.newContext();
const page = await context.newPage();
page.setDefaultTimeout(DEADLINE_MS);
const response = await page.goto(url);
assert.equal(response.headers().link, '</.well-known/mercure>; rel="mercure"');

const publisher = sign({ mercure: { publish: ["*"] } });

// What the page offers to this script.
const prepare = () => page.evaluate(() => {
  window.received = [];
  window.listen = parameters => new Promise((done, fail) => {
    const source = new EventSource(`/.well-known/mercure?${new URLSearchParams(parameters)}`);
    source.onopen = () => done();
    source.onerror = () => source.readyState === EventSource.CLOSED && fail(new Error("closed"));
    const take = ({ type, data, lastEventId }) => window.received.push([type, data, lastEventId]);
    source.onmessage = take;
    source.addEventListener("news", take);
    window.source = source;
  });
});

const listen = parameters => page.evaluate(it => window.listen(it), parameters);
const publish = fields => page.evaluate(async ([fields, token]) => {
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch("/.well-known/mercure", { method: "POST", headers, body: new URLSearchParams(fields) });
  return [answer.status, await answer.text(), answer.headers.get("content-type")];
}, [fields, publisher]);
const receives = async expected => {
  await page.waitForFunction(count => count <= window.received.length, expected.length);
  assert.deepEqual(await page.evaluate(() => window.received.splice(0)), expected);
};

// An update with each kind of selector, and those that are not selected.
const data = "data for\n\n        lines";
const topic = "https://example.net/foo/1";
for (const [selector, updated] of [
  [["topic", "raw"], "raw"],
  [["match", "raw"], "raw"],
  [["topic", topic], topic],
  [["topic", "https://example.net/foo/{random}"], topic],
  [["match_urlpattern", "https://example.net/foo/:random"], topic],
  [["topic", "*"], topic],
]) {
  await prepare();
  await listen([["topic", "another-name"], selector]);
  await publish([["topic", "https://example.net/foo/will/not/match"], ["topic", "nor-this"], ["private", "on"]]);
  const id = `id-${JSON.stringify([updated])}`;
  const [status, body, type] = await publish([["topic", updated], ["id", id], ["data", data]]);
  assert.deepEqual([status, body], [200, id]);
  assert.match(type, /^text\/plain(?:$|;)/);
  await receives([["message", data, id]]);
  await page.evaluate(() => window.source.close());
}

// The cookie of a subscriber, and private updates.
const token = sign({ mercure: { subscribe: ["https://example.net/private/{id}"] } });
await context.addCookies([{ name: "mercureAuthorization", value: token, url: `${url}/.well-known/mercure`, httpOnly: true, sameSite: "Strict" }]);
await prepare();
await listen([["topic", "*"]]);
await publish([["topic", "https://example.net/others/1"], ["data", "not"], ["private", "on"]]);
await publish([["topic", "https://example.net/private/1"], ["data", "secret"], ["private", "on"], ["id", "urn:secret"], ["type", "news"], ["retry", "50"]]);
await receives([["news", "secret", "urn:secret"]]);

// A page that is loaded again goes on behind its last event.
await page.evaluate(() => window.source.close());
await publish([["topic", "raw"], ["data", "missed"], ["id", "urn:missed"]]);
await page.reload();
await prepare();
await listen([["topic", "*"], ["last_event_id", "urn:secret"]]);
await receives([["message", "missed", "urn:missed"]]);

// A browser comes back by itself when the hub has been restarted. What it has not kept is gone, and what comes is heard.
server.kill("SIGTERM");
await once(server, "exit");
const [successor] = await serve(new URL(url).host);
await page.waitForFunction(() => window.source.readyState === EventSource.OPEN);
await publish([["topic", "raw"], ["data", "again"], ["id", "urn:again"]]);
await receives([["message", "again", "urn:again"]]);

await browser.close();
successor.kill("SIGTERM");
await once(successor, "exit");
clearTimeout(watchdog);
