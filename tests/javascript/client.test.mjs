// The transports of the browser client and what it does on them: node --experimental-websocket --test tests/javascript/*.test.mjs

import assert from "node:assert/strict";
import { test } from "node:test";
import { Waterwheel } from "../../src/hub/waterwheel.js";
import { given, jwt, numbers, TIMING } from "./given.mjs";
import { bucketOf, Hub } from "./hub.mjs";

given("messages come once and in order although the connection is cut", async ({ hub, client, until, on }) => {
  const got = [];
  client.subscribe("t", data => got.push(data));
  await on("websocket");
  for (const n of numbers(200)) {
    hub.publish("t", n);
    if (n % 10 === 5) hub.cut();
    if (n % 7 === 0) await new Promise(resolve => setTimeout(resolve, 5));
  }
  await until(() => got.length >= 200);
  assert.deepEqual(got, numbers(200));
});

given("the transports follow each other, and the client returns to the best", async ({ hub, client, states, until, on, t }) => {
  const got = [];
  const others = [];
  client.subscribe("t", data => got.push(data));
  client.subscribe("u.*", (data, { topic }) => others.push(`${topic} ${data}`));
  await on("websocket");
  const sent = [];
  const timer = setInterval(() => {
    hub.publish("u.1", sent.length);
    hub.publish("t", sent.length);
    sent.push(sent.length);
  }, 3);
  t.after(() => clearInterval(timer));
  hub.refused.add("ws");
  hub.cut();
  await on("event stream");
  await until(() => got.length > 100);
  hub.cut();
  await on("event stream");
  hub.refused.add("events");
  hub.cut();
  await on("long poll");
  const before = got.length;
  await until(() => got.length > before + 100);
  hub.refused.clear();
  await on("websocket");
  clearInterval(timer);
  await until(() => got.length >= sent.length && others.length >= sent.length);
  assert.deepEqual(got, sent);
  assert.deepEqual(others, sent.map(n => `u.1 ${n}`));
  assert(!states.slice(states.lastIndexOf("long poll")).includes("waiting"), `a better transport needs no pause: ${states}`);
});

given("a topic with messages all the time opens over HTTP too", async ({ hub, client, until, on, t }) => {
  const got = [];
  hub.refused.add("ws");
  // There is something new whenever a page is asked for.
  let sent = 0;
  const publish = () => hub.publish("t", sent++);
  hub.onRequest = publish;
  t.after(() => (hub.onRequest = undefined));
  client.subscribe("t", data => got.push(data), { since: "earliest" });
  await on("event stream");
  await until(() => got.length === sent);
  assert.deepEqual(got, numbers(sent));
});

given("a link that delivers is kept until a better one has answered", async ({ hub, client, states, until, on }) => {
  const got = [];
  hub.refused.add("ws");
  client.subscribe("t", data => got.push(data));
  await on("event stream");
  hub.refused.delete("ws");
  hub.silent = true; // A WebSocket opens, and nothing comes.
  const tries = () => hub.log.filter(([kind]) => kind === "ws").length;
  const before = tries();
  await until(() => tries() > before + 1);
  hub.publish("t", 1);
  await until(() => got.length === 1);
  assert.equal(states.at(-1), "event stream");
  hub.silent = false;
  await on("websocket");
});

for (const ids of ["numbers", "places", "buckets"]) given(`topics and patterns that overlap get each message once, ids with ${ids}`, async ({ hub, client, until, on, states }) => {
  hub.hasPlaces = ids === "places";
  if (ids === "buckets") hub.buckets = Array(16).fill(0);
  const got = { exact: [], pattern: [], other: [], twin: [] };
  client.subscribe("a.b", data => got.exact.push(data));
  client.subscribe("a.*", data => got.pattern.push(data));
  client.subscribe("?.b", data => got.other.push(data));
  client.subscribe("a.b", data => got.twin.push(data));
  await on("websocket");
  const expected = { exact: [], pattern: [] };
  for (const n of numbers(120)) {
    const topic = n % 3 === 0 ? "a.b" : "a.c";
    hub.publish(topic, n);
    expected.pattern.push(n);
    if (n % 3 === 0) expected.exact.push(n);
    if (n === 50) {
      hub.refused.add("ws");
      hub.cut();
      await on("event stream");
    }
    if (n === 80) {
      hub.refused.clear();
      await on("websocket");
    }
    if (n % 20 === 10) hub.cut();
    if (n % 10 === 0) await new Promise(resolve => setTimeout(resolve, 3));
  }
  await until(() => got.pattern.length >= 120 && got.exact.length >= 40 && got.twin.length >= 40 && got.other.length >= 40);
  if (ids === "buckets") {
    // The order holds within a bucket.
    const isExact = n => n % 3 === 0;
    assert.deepEqual(got.pattern.filter(isExact), expected.exact);
    assert.deepEqual(got.pattern.filter(n => !isExact(n)), expected.pattern.filter(n => !isExact(n)));
    got.pattern = expected.pattern;
  }
  assert.deepEqual(got, { ...expected, other: expected.exact, twin: expected.exact });
});

test("buckets are those of Redis Cluster", () => {
  // Source: CLUSTER KEYSLOT, and the Redis Cluster specification.
  const slots = { foo: 12182, bar: 5061, hello: 866, 123456789: 12739, "{user1000}.following": 3443, "{user1000}.followers": 3443 };
  for (const [topic, slot] of Object.entries(slots)) assert.equal(bucketOf(topic), slot % 16, topic);
  assert.notEqual(bucketOf("{}{b}"), bucketOf("b"));
});

given("subscriptions of many buckets get each message once over every transport", async ({ hub, client, until, on, t }) => {
  hub.buckets = Array(16).fill(0);
  const topics = [...numbers(9).map(n => `t${n}`), "{t1}", "{t2}é", "a{}b", "{"];
  const got = [];
  const hear = (name, isWanted, options) => {
    const it = { name, isWanted, of: new Map() };
    got.push(it);
    client.subscribe(name, (data, { topic }) => it.of.set(topic, [...(it.of.get(topic) ?? []), data]), options);
  };
  hear("*", () => true);
  for (const topic of topics) hear(topic, other => other === topic);
  hear("t*", topic => topic.startsWith("t"));
  await on("websocket");
  const sent = new Map(topics.map(topic => [topic, []]));
  let count = 0;
  const timer = setInterval(() => {
    const topic = topics[(count * 5) % topics.length];
    hub.publish(topic, count);
    sent.get(topic).push(count);
    if (++count % 97 === 0) hub.cut();
  }, 3);
  t.after(() => clearInterval(timer));
  for (const [transport, refused] of [["event stream", ["ws"]], ["long poll", ["ws", "events"]], ["websocket", []]]) {
    hub.refused = new Set(refused);
    hub.cut();
    await on(transport);
    const before = count;
    await until(() => count > before + 200);
    // One that is added later and begins at the first message overlaps those that are live.
    hear(`?${transport === "websocket" ? "1" : "2"}`, topic => topic === (transport === "websocket" ? "t1" : "t2"), { since: "earliest" });
  }
  clearInterval(timer);
  const isWhole = ({ isWanted, of }) => topics.every(topic => !isWanted(topic) || (of.get(topic)?.length ?? 0) >= sent.get(topic).length);
  await until(() => got.every(isWhole));
  for (const { name, isWanted, of } of got) {
    for (const topic of topics.filter(isWanted)) assert.deepEqual(of.get(topic) ?? [], sent.get(topic), `${topic} by ${name}`);
  }
});

given("messages with places are heard on another node too", async ({ hub, client, until, on }) => {
  const got = [];
  hub.hasPlaces = true;
  hub.publish("t", "numbered");
  client.subscribe("t", data => got.push(data), { onGap: () => got.push("gap") });
  await on("websocket");
  hub.publish("t", 1);
  await until(() => got.length === 1);
  // Its places are below those of the first, which it does not know: it tells a gap at the number before.
  hub.base = 10n ** 18n;
  hub.cut();
  await until(() => got.at(-1) === "gap");
  await on("websocket");
  hub.publish("t", 2);
  await until(() => got.length === 3);
  assert.deepEqual(got, [1, "gap", 2]);
});

given("a subscription begins now, or where it is told to", async ({ hub, client, until, on }) => {
  for (const n of numbers(30)) hub.publish("t", n, { key: `k${n % 3}` });
  const got = { now: [], all: [], part: [], latest: [] };
  client.subscribe("t", data => got.now.push(data));
  await on("websocket");
  hub.refused.add("poll");
  client.subscribe("t", data => got.latest.push(data), { latest: true });
  await until(() => got.latest.length === 3);
  client.subscribe("t", data => got.all.push(data), { since: "earliest" });
  client.subscribe("t", data => got.part.push(data), { since: "a:20" });
  await until(() => got.all.length === 30);
  hub.publish("t", 30);
  await until(() => got.now.length === 1 && got.all.length === 31);
  assert.deepEqual(got, { now: [30], all: numbers(31), part: numbers(31).slice(20), latest: [27, 28, 29, 30] });
});

given("a subscription that is added and ended later", async ({ hub, client, until, on, states }) => {
  for (const [transport, refused] of [["websocket", []], ["event stream", ["ws"]], ["long poll", ["ws", "events"]]]) {
    hub.refused = new Set(refused);
    const got = [];
    const ends = [client.subscribe("t", data => got.push(["t", data]))];
    await on(transport);
    ends.push(client.subscribe("u", data => got.push(["u", data])));
    await until(() => [...hub.members].some(({ names }) => names.has("u")));
    hub.publish("t", 1);
    hub.publish("u", 2);
    await until(() => got.length === 2);
    ends[0]();
    await until(() => [...hub.members].some(({ names }) => names.has("u") && !names.has("t")));
    hub.publish("t", 3);
    hub.publish("u", 4);
    await until(() => got.length === 3);
    assert.deepEqual(got, [["t", 1], ["u", 2], ["u", 4]], transport);
    for (const end of ends) end();
    await on("idle");
  }
});

given("a gap is told where messages may be missing", async ({ hub, client, until, on }) => {
  const gaps = [];
  const got = [];
  client.subscribe("t", data => got.push(data), { onGap: name => gaps.push([name, got.length]) });
  for (const transport of ["websocket", "event stream", "long poll"]) {
    await on(transport);
    hub.publish("t", transport);
    await until(() => got.at(-1) === transport);
    if (transport === "websocket") hub.refused.add("ws");
    else hub.refused.add("events");
    hub.restart();
    hub.publish("t", `after ${transport}`);
    await until(() => got.at(-1) === `after ${transport}`);
  }
  assert.deepEqual(gaps, [["t", 1], ["t", 3], ["t", 5]]);
  assert.equal(got.length, 6);
});

given("what history has forgotten is a gap, and the rest is replayed", async ({ hub, client, until, on }) => {
  const got = [];
  client.subscribe("t", data => got.push(data), { onGap: () => got.push("gap") });
  await on("websocket");
  hub.publish("t", 0);
  await until(() => got.length === 1);
  hub.refused.add("ws").add("events").add("poll");
  hub.cut();
  for (const n of numbers(30)) hub.publish("t", n + 1);
  hub.forget(10);
  hub.refused.clear();
  await until(() => got.length >= 23);
  assert.deepEqual(got, [0, "gap", ...numbers(31).slice(10)]);
});

test("a gap is written on the console once where no callback is given", { timeout: 60_000 }, async t => {
  const warn = t.mock.method(console, "warn", () => {});
  const hub = await Hub.start();
  const client = new Waterwheel(hub.url, { timing: TIMING });
  const got = [];
  client.subscribe("t", data => got.push(data));
  for (const n of [1, 2]) {
    hub.restart();
    while (got.at(-1) !== n) {
      await new Promise(resolve => setTimeout(resolve, 20));
      hub.publish("t", n);
    }
  }
  assert.equal(warn.mock.callCount(), 1);
  client.close();
  hub.end();
});

given("publishing answers with the id, or fails", async ({ hub, client, until, on }) => {
  const got = [];
  hub.forbidden.add("no");
  // Before there is a connection, and so by POST.
  assert.equal(await client.publish("t", { n: 1 }, { event: "e", key: "k" }), "a:1");
  await assert.rejects(client.publish("no", 1), { code: "forbidden" });
  client.subscribe("t", (data, message) => got.push([data, message.event, message.key]));
  await on("websocket");
  assert.equal(await client.publish("t", { n: 2 }, { event: "e", key: "k" }), "a:2");
  assert.equal(await client.publish("t"), "a:3");
  await assert.rejects(client.publish("no", 1), { code: "forbidden" });
  await until(() => got.length === 2);
  assert.deepEqual(got, [[{ n: 2 }, "e", "k"], [null, undefined, undefined]]);
  hub.silent = true;
  const lost = client.publish("t", 4);
  hub.cut();
  await assert.rejects(lost, /disconnected/);
});

given("a name that is refused keeps no other out", async ({ hub, client, errors, until, on }) => {
  hub.forbidden.add("no");
  const own = [];
  const got = [];
  for (const [transport, refused] of [["websocket", []], ["event stream", ["ws"]], ["long poll", ["ws", "events"]]]) {
    hub.refused = new Set(refused);
    const ends = [
      client.subscribe("t", data => got.push(data)),
      client.subscribe("no", () => assert.fail("it is refused")),
      client.subscribe("no", () => assert.fail("it is refused"), { onError: error => own.push(error.code) }),
    ];
    await on(transport);
    await until(() => [...hub.members].some(({ names }) => names.has("t")));
    hub.publish("no", 0);
    hub.publish("t", transport);
    await until(() => got.at(-1) === transport);
    for (const end of ends) end();
    await on("idle");
  }
  assert(own.length >= 3 && own.every(code => code === "forbidden"), own);
  assert(errors.every(error => error.code === "forbidden"));
});

let asked = 0;
given("a fresh token is asked for before the old one ends", async ({ hub, client, until, on }) => {
  const got = [];
  hub.private = new Map([["t", undefined]]);
  client.subscribe("t", data => got.push(data), { onError: () => {} });
  const tokens = () => hub.log.filter(([, { auth }]) => auth).map(([, { auth }]) => auth);
  await on("websocket");
  await until(() => tokens().length >= 2);
  const [first, second] = tokens();
  assert.notEqual(first, second);
  assert.equal(asked, 2);
  assert.equal(hub.log.filter(([kind]) => kind === "ws").length, 1, "the connection stays");
}, { token: async () => jwt(Math.floor(Date.now() / 1000) + ++asked * 6) });

let granted = "old";
given("what has expired is asked for again with a fresh token", async ({ hub, client, errors, until, on }) => {
  const got = [];
  hub.private.set("t", "old");
  client.subscribe("t", data => got.push(data));
  await on("websocket");
  hub.publish("t", 1);
  await until(() => got.length === 1);
  hub.private.set("t", (granted = "new"));
  for (const member of hub.members) {
    member.names.delete("t");
    member.send({ unsubscribed: "t", reason: "expired" });
    member.send({ expired: true });
  }
  hub.publish("t", 2);
  await until(() => got.length === 2);
  assert.deepEqual(got, [1, 2]);
  assert.deepEqual(errors.map(error => error.code), ["expired"]);
  for (const member of hub.members) {
    member.names.delete("t");
    member.send({ unsubscribed: "t", reason: "forced" });
  }
  await until(() => errors.length === 2);
  assert.equal(errors[1].code, "forced");
}, { token: () => granted });

given("HTTP transports carry the token", async ({ hub, client, until, on }) => {
  const got = [];
  hub.refused.add("ws");
  hub.private.set("t", "secret");
  client.subscribe("t", data => got.push(data));
  await on("event stream");
  await client.publish("t", 1);
  await until(() => got.length === 1);
}, { token: "secret" });

given("a WebSocket that is dead without an end is found and left", async ({ hub, client, states, until, on }) => {
  const got = [];
  client.subscribe("t", data => got.push(data));
  await on("websocket");
  hub.silent = true;
  hub.publish("t", 1);
  await until(() => hub.log.some(([, { presence }]) => presence === ""));
  await until(() => states.at(-1) !== "websocket");
  hub.silent = false;
  await until(() => got.length === 1);
});

given("a quiet WebSocket that answers is kept", async ({ hub, client, states, until, on }) => {
  client.subscribe("t", () => {});
  await on("websocket");
  await until(() => hub.log.filter(([, { presence }]) => presence === "").length >= 3);
  assert.equal(states.at(-1), "websocket");
  assert.equal(hub.log.filter(([kind]) => kind === "ws").length, 1);
});

given("presence is a list that follows the users", async ({ hub, client, until, on }) => {
  hub.users = [{ user: "ada", connections: 1 }];
  hub.presences.add("t");
  for (const [transport, refused] of [["websocket", []], ["event stream", ["ws"]]]) {
    hub.refused = new Set(refused);
    let users = [];
    const end = client.presence("t", list => (users = list.map(({ user }) => user)));
    await on(transport);
    await until(() => `${users}` === "ada");
    hub.notice({ topic: "t", joined: { user: "bob" } });
    await until(() => `${users}` === "ada,bob");
    hub.notice({ topic: "t", left: { user: "ada" } });
    await until(() => `${users}` === "bob");
    hub.cut();
    await until(() => `${users}` === "ada");
    end();
    await on("idle");
  }
});

given("a callback that fails does not stop the others", async ({ hub, client, until, on, t }) => {
  const error = t.mock.method(console, "error", () => {});
  const got = [];
  client.onState(() => { throw new Error("mine"); });
  client.subscribe("t", () => { throw new Error("mine"); });
  client.subscribe("t", data => got.push(data));
  await on("websocket");
  hub.publish("t", 1);
  hub.publish("t", 2);
  await until(() => got.length === 2);
  assert(error.mock.callCount() >= 4);
});

given("without WebSocket the event stream is the best", async ({ hub, client, until, on, states }) => {
  const got = [];
  client.subscribe("t", data => got.push(data));
  await on("event stream");
  hub.refused.add("events");
  hub.cut();
  await on("long poll");
  hub.publish("t", 1);
  hub.refused.clear();
  await on("event stream");
  hub.publish("t", 2);
  await until(() => got.length === 2);
  assert.deepEqual(got, [1, 2]);
}, { WebSocket: null });
