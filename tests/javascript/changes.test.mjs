// Subscriptions, tokens and pages that change while the browser client connects, joins or moves to another transport.

import assert from "node:assert/strict";

const listeners = new Map();
globalThis.addEventListener = (event, callback) => listeners.set(event, [...(listeners.get(event) ?? []), callback]);
const fire = event => listeners.get(event).forEach(callback => callback());
// A long pause that a test has ended does not keep the process.
const { setTimeout: start } = globalThis;
globalThis.setTimeout = (callback, ms, ...values) => {
  const timer = start(callback, ms, ...values);
  return ms >= 100_000 ? timer.unref() : timer;
};
// A clock that a test can put forward.
const { now } = Date;
let ahead = 0;
Date.now = () => now() + ahead;

const { given, jwt, numbers, TIMING } = await import("./given.mjs");
const turn = (ms = 1) => new Promise(resolve => setTimeout(resolve, ms));

// No deadline passes while a test holds answers back.
const slow = { timing: { ...TIMING, answer: 4000, silence: 10_000 } };

given("a subscription that is added before the first answer is asked for too", async ({ hub, client, until }) => {
  const got = [];
  hub.isHeld = command => command === "subscribe";
  client.subscribe("a", data => got.push(data));
  await until(() => hub.held.length === 1);
  client.subscribe("b", data => got.push(data));
  await until(() => hub.held.length === 2);
  hub.release();
  await until(() => `${hub.names()}` === "a,b");
  hub.publish("b", 1);
  hub.publish("a", 2);
  await until(() => got.length === 2);
  assert.deepEqual(got, [1, 2]);
}, slow);

for (const reason of ["its function", "expired", "forced"]) {
  given(`a subscription that is ended by ${reason} during its replay does not stop the others`, async ({ hub, client, until, on, t }) => {
    for (const n of numbers(2000)) hub.publish("t", n);
    const got = [];
    client.subscribe("u", data => got.push(data));
    await on("websocket");
    const end = client.subscribe("t", () => {}, { since: "earliest", onError: () => {} });
    await until(() => hub.log.some(([, { subscribe }]) => subscribe === "t"));
    reason === "its function" ? end() : hub.unsubscribe("t", reason);
    const timer = setInterval(() => hub.publish("u", 1), 20);
    t.after(() => clearInterval(timer));
    await until(() => got.length > 0);
  });
}

given("a subscription that is ended during the first join is left on the hub too", async ({ hub, client, until, on }) => {
  for (const n of numbers(2000)) hub.publish("t", n);
  client.subscribe("u", () => {});
  const end = client.subscribe("t", () => {}, { since: "earliest" });
  await until(() => hub.log.some(([, { subscribe }]) => subscribe === "t"));
  end();
  await on("websocket");
  await until(() => `${hub.names()}` === "u");
});

given("messages around a gap come in order, by a pattern too", async ({ hub, client, until, on }) => {
  const got = { "?": [], a: [], b: [] };
  for (const name of ["a", "b", "?"]) client.subscribe(name, data => got[name].push(data), { onGap: () => {} });
  await on("websocket");
  hub.restart();
  for (const data of ["b1", "a2", "b3", "a4"]) hub.publish(data[0], data);
  await until(() => got["?"].length + got.a.length + got.b.length >= 8);
  assert.deepEqual(got, { "?": ["b1", "a2", "b3", "a4"], a: ["a2", "a4"], b: ["b1", "b3"] });
});

given("close and a new subscription at once leave the old names", async ({ hub, client, until, on }) => {
  client.subscribe("t", () => {});
  await on("websocket");
  client.close();
  client.subscribe("u", () => {});
  await until(() => `${hub.names()}` === "u");
});

given("the hub ends the last subscription, and the connection ends", async ({ hub, client, on, errors }) => {
  client.subscribe("t", () => {});
  await on("websocket");
  hub.unsubscribe("t", "forced");
  await on("idle");
  assert.deepEqual(errors.map(({ code }) => code), ["forced"]);
});

given("a callback of errors may subscribe again", async ({ hub, client, until, on }) => {
  let count = 0;
  const onError = () => count++ < 1000 && client.subscribe("t", () => {}, { onError });
  client.subscribe("t", () => {}, { onError });
  await on("websocket");
  hub.unsubscribe("t", "forced");
  await until(() => count > 0 && `${hub.names()}` === "t");
  assert.equal(count, 1);
});

given("names that are added fast over HTTP are no errors", async ({ hub, client, errors, until, on }) => {
  for (const refused of [["ws"], ["ws", "events"]]) {
    hub.refused = new Set(refused);
    const live = new Set();
    const ends = [client.subscribe("t", () => {})];
    await on(refused[1] ? "long poll" : "event stream");
    for (const n of numbers(60)) {
      ends.push(client.subscribe(`n${n}`, () => {}, { onSubscribed: () => live.add(n) }));
      await turn(n % 7);
    }
    await until(() => live.size === 60);
    for (const end of ends) end();
    await on("idle");
  }
  assert.deepEqual(errors, []);
  const nameless = hub.log.filter(([path, query]) => ["poll", "events"].includes(path) && !("topic" in query));
  assert.deepEqual(nameless, []);
});

given("a request that a better transport ends is no error", async ({ hub, client, errors, until, on }) => {
  hub.refused.add("ws");
  hub.isHeld = path => path === "presence" && hub.refused.has("ws");
  client.presence("t", () => {});
  await on("event stream");
  await until(() => hub.held.length > 0);
  hub.refused.clear();
  await on("websocket");
  assert.deepEqual(errors, []);
});

given("a watcher that has ended is not called", async ({ hub, client, until, on }) => {
  let count = 0;
  hub.isHeld = command => command === "presence";
  client.subscribe("u", () => {});
  const end = client.presence("t", () => count++);
  await on("websocket");
  await until(() => hub.held.length > 0);
  end();
  hub.release();
  await client.publish("u"); // Answered behind the presence.
  assert.equal(count, 0);
});

given("a list of users does not overwrite newer news of an event stream", async ({ hub, client, until, on }) => {
  hub.refused.add("ws");
  hub.isHeld = path => path === "presence";
  hub.presences.add("t");
  hub.users = [{ user: "ada" }];
  let users = [];
  client.presence("t", list => (users = list.map(({ user }) => user)));
  await on("event stream");
  await until(() => hub.held.length > 0 && `${users}` === "ada");
  hub.join("t", "bob");
  await until(() => `${users}` === "ada,bob");
  hub.release();
  await client.publish("u");
  assert.deepEqual(users, ["ada", "bob"]);
});

given("a page that comes to the front while the client connects keeps the attempt", async ({ hub, client, states, until, on }) => {
  hub.isHeld = command => command === "subscribe";
  client.subscribe("t", () => {});
  await until(() => hub.held.length === 1);
  fire("visibilitychange");
  await turn(900); // Two of the client's ticks.
  hub.release();
  await on("websocket");
  assert(!states.includes("event stream"), `${states}`);
}, slow);

given("two events of the page at once keep a connection that answers", async ({ hub, client, until, on }) => {
  client.subscribe("t", () => {});
  await on("websocket");
  fire("online");
  fire("visibilitychange");
  await until(() => hub.log.some(([, { presence }]) => presence === ""));
  await client.publish("t");
  assert.equal(hub.log.filter(([path]) => path === "ws").length, 1);
});

given("events of the page do not keep a connection that is dead", async ({ hub, client, states, until, on, t }) => {
  client.subscribe("t", () => {});
  await on("websocket");
  hub.silent = true;
  const timer = setInterval(() => fire("visibilitychange"), 100);
  t.after(() => clearInterval(timer));
  await until(() => states.at(-1) !== "websocket");
});

given("an event of the page keeps a long poll", async ({ hub, client, until, on }) => {
  hub.refused = new Set(["ws", "events"]);
  client.subscribe("t", () => {});
  await on("long poll");
  const count = wait => hub.log.filter(([path, query]) => path === "poll" && query.wait === wait).length;
  const [joins, polls] = [count("0"), count("0.5")];
  fire("visibilitychange");
  await until(() => count("0.5") > polls + 2);
  assert.equal(count("0"), joins);
}, { timing: { ...TIMING, better: 60_000 } });

given("a client comes back when the hub has said, or when its page comes to the front", async ({ hub, client, states, on, t }) => {
  hub.refused.add("ws");
  client.subscribe("t", () => {});
  await on("event stream");
  hub.endStreams(100_000); // Longer than the test may take.
  await on("waiting");
  globalThis.document = { hidden: true };
  t.after(() => delete globalThis.document);
  fire("visibilitychange");
  await turn(600); // Three of the client's longest pauses.
  assert.equal(states.at(-1), "waiting");
  globalThis.document.hidden = false;
  fire("visibilitychange");
  await on("event stream");
});

given("a name with two subscriptions stays when one of them ends", async ({ hub, client, until, on }) => {
  const got = [];
  const end = client.subscribe("t", () => {});
  client.subscribe("t", data => got.push(data));
  await on("websocket");
  end();
  await client.publish("u"); // Answered behind what the end has sent.
  assert.deepEqual(hub.names(), ["t"]);
  hub.publish("t", 1);
  await until(() => got.length === 1);
});

class Recorded extends WebSocket {
  static all = [];
  closeCount = 0;
  constructor(...values) {
    super(...values);
    Recorded.all.push(this);
  }
  close() {
    this.closeCount++;
    super.close();
  }
}
given("a WebSocket on trial ends with the client", async ({ hub, client, until, on }) => {
  hub.refused.add("ws");
  client.subscribe("t", () => {});
  await on("event stream");
  hub.refused.clear();
  hub.silent = true;
  await until(() => Recorded.all.at(-1).readyState === 1);
  client.close();
  await turn();
  await turn();
  assert.notEqual(Recorded.all.at(-1).closeCount, 0);
}, { ...slow, WebSocket: Recorded });

given("a client whose subscriptions change all the time returns to the WebSocket", async ({ hub, client, on, t }) => {
  hub.refused.add("ws");
  client.subscribe("t", () => {});
  await on("event stream");
  hub.refused.clear();
  let end;
  const timer = setInterval(() => {
    end?.();
    end = client.subscribe("u", () => {});
  }, 300);
  t.after(() => clearInterval(timer));
  await on("websocket");
});

given("a long poll goes back to the event stream where the WebSocket stays refused", async ({ hub, client, on }) => {
  hub.refused = new Set(["ws", "events"]);
  client.subscribe("t", () => {});
  await on("long poll");
  hub.refused.delete("events");
  await on("event stream");
});

given("a client whose hub is away is not connected", async ({ hub, client, states, until }) => {
  hub.refused = new Set(["ws", "events", "poll"]);
  client.subscribe("t", () => {});
  await until(() => states.filter(state => state === "waiting").length >= 3);
  assert.deepEqual(new Set(states), new Set(["idle", "connecting", "waiting"]));
});

const inSeconds = seconds => Math.floor(Date.now() / 1000) + seconds;
let calls = 0;
given("a renewal that fails once does not end a connection whose token is good", async ({ hub, client, states, until, on }) => {
  client.subscribe("t", () => {});
  await on("websocket");
  const tokens = () => hub.log.filter(([, { auth }]) => auth).length;
  assert.equal(calls, 1);
  for (const count of [2, 3]) {
    ahead += 6000;
    await until(() => calls === count);
    await client.publish("t");
  }
  await until(() => tokens() === 2);
  assert.equal(states.at(-1), "websocket");
  assert.equal(hub.log.filter(([path]) => path === "ws").length, 1);
}, {
  ...slow,
  token: async () => {
    if (++calls === 2) throw new Error("the service of tokens is away");
    return jwt(inSeconds(8 + calls));
  },
});

let granted = 0;
given("a token that a WebSocket refuses is asked for again", async ({ hub, client, until, on }) => {
  hub.badTokens.add(jwt(4e9));
  hub.private.set("t", "second");
  client.subscribe("u", () => {});
  client.subscribe("t", () => {}, { onError: () => {} });
  await on("websocket");
  ahead += 6000;
  await until(() => hub.names().includes("t"));
  assert.equal(granted, 2);
}, { ...slow, token: async () => (granted++ ? "second" : jwt(4e9)) });

let grantedOverHttp = 0;
given("a token that is refused over HTTP is asked for again", async ({ hub, client, until, on }) => {
  hub.refused = new Set(["ws", "events"]);
  hub.private.set("t", "second");
  let isSubscribed = false;
  client.subscribe("u", () => {});
  client.subscribe("t", () => {}, { onError: () => {}, onSubscribed: () => (isSubscribed = true) });
  await on("long poll");
  await until(() => isSubscribed);
}, { timing: { ...TIMING, better: 60_000 }, token: async () => (grantedOverHttp++ ? "second" : jwt(4e9)) });

// A hub ends a connection with many wrong tokens.
let refused = 0;
given("tokens that are refused are asked for again once a connection", async ({ hub, client, errors, until, on }) => {
  hub.badTokens = { has: () => true };
  client.subscribe("t", () => {});
  await on("websocket");
  ahead += 6000;
  await until(() => errors.length === 2);
  ahead += 6000;
  await client.publish("t");
  ahead += 6000;
  await turn(900); // Two of the client's ticks.
  await client.publish("t");
  assert.equal(refused, 2);
  assert.deepEqual(errors.map(({ code }) => code), ["unauthorized", "unauthorized"]);
  hub.cut();
  await until(() => refused === 4 || (ahead += 3000) < 0);
}, { ...slow, token: async () => jwt(4e9 + ++refused) });
