// npm's `pusher-js` as the client and `pusher` as the backend of an app: `node drive.mjs PORT ID KEY SECRET`. Prints
// `ok NAME` for each step that went as it should, and ends with 1 at the first that did not.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

// They are installed beside the driver of the browser.
const require = createRequire(new URL("../browser/package.json", import.meta.url));
const PusherClient = require("pusher-js");
const Pusher = require("pusher");
const { default: Echo } = await import("../browser/node_modules/laravel-echo/dist/echo.js");

const [port, appId, key, secret] = process.argv.slice(2);
const encryptionMasterKeyBase64 = Buffer.alloc(32, 7).toString("base64");
const server = { appId, key, secret, host: "127.0.0.1", port, useTLS: false };
const backend = new Pusher({ ...server, encryptionMasterKeyBase64 });

/** A promise that fails after a while, so that nothing is waited for in vain. */
const within = (what, promise) =>
  Promise.race([
    promise,
    new Promise((_, fail) => setTimeout(() => fail(new Error(`no ${what}`)), 20_000)),
  ]);

const once = (emitter, name) => within(name, new Promise(done => emitter.bind(name, done)));

/** The options of a client whose user the backend knows by this name. */
const options = (user = "nobody", more = {}) => ({
  cluster: "",
  wsHost: "127.0.0.1",
  wsPort: port,
  forceTLS: false,
  enabledTransports: ["ws"],
  disableStats: true,
  channelAuthorization: {
    customHandler: ({ socketId, channelName }, done) => {
      const member = { user_id: user, user_info: { name: user.toUpperCase() } };
      const data = channelName.startsWith("presence-") ? member : undefined;
      done(null, backend.authorizeChannel(socketId, channelName, data));
    },
  },
  userAuthentication: {
    customHandler: ({ socketId }, done) =>
      done(null, backend.authenticateUser(socketId, { id: user, ...more })),
  },
});

const connect = async (user, more) => {
  const client = new PusherClient(key, options(user, more));
  await once(client.connection, "connected");
  return client;
};

const json = async answer => {
  const response = await answer;
  assert.equal(response.status, 200);
  return response.json();
};

const subscribe = async (client, name) => {
  const channel = client.subscribe(name);
  await once(channel, "pusher:subscription_succeeded");
  return channel;
};

const steps = {
  async "a public channel"() {
    const client = await connect();
    const channel = await subscribe(client, "news");
    const event = once(channel, "new-post");
    const answer = await backend.trigger("news", "new-post", { text: "<ä> \"quoted\"" });
    assert.equal(answer.status, 200);
    assert.deepEqual(await event, { text: "<ä> \"quoted\"" });
    client.disconnect();
  },

  async "a private channel, and events of clients"() {
    const [one, other] = [await connect(), await connect()];
    const mine = await subscribe(one, "private-room");
    const theirs = await subscribe(other, "private-room");
    const typing = once(theirs, "client-typing");
    assert(mine.trigger("client-typing", { who: 1 }));
    assert.deepEqual(await typing, { who: 1 });
    // The backend leaves out the connection that asked it.
    const heard = [];
    mine.bind("e", data => heard.push(data));
    const both = once(theirs, "e");
    await backend.trigger("private-room", "e", 1, { socket_id: one.connection.socket_id });
    await both;
    const last = once(mine, "last");
    await backend.trigger("private-room", "last", 2);
    await last;
    assert.deepEqual(heard, []);
    one.disconnect();
    other.disconnect();
  },

  async "a private channel without the right signature"() {
    const channelAuthorization = {
      customHandler: (_, done) => done(null, { auth: `${key}:00` }),
    };
    const client = new PusherClient(key, { ...options(), channelAuthorization });
    const channel = client.subscribe("private-room");
    const error = await once(channel, "pusher:subscription_error");
    assert.equal(error.status, 401);
    client.disconnect();
  },

  async "a hundred channels in one request"() {
    const client = await connect();
    const names = Array.from({ length: 100 }, (_, index) => `many-${index}`);
    const channels = await Promise.all(names.map(name => subscribe(client, name)));
    const events = channels.map(channel => once(channel, "e"));
    await backend.trigger(names, "e", "all");
    assert.deepEqual(await Promise.all(events), names.map(() => "all"));
    client.disconnect();
  },

  async "a presence channel"() {
    const [ann, ben] = [await connect("ann"), await connect("ben")];
    const ofAnn = await subscribe(ann, "presence-room");
    assert.deepEqual(ofAnn.members.me, { id: "ann", info: { name: "ANN" } });
    const added = once(ofAnn, "pusher:member_added");
    const ofBen = await subscribe(ben, "presence-room");
    assert.equal(ofBen.members.count, 2);
    assert.deepEqual(await added, { id: "ben", info: { name: "BEN" } });
    // A second connection of a user is the same member.
    const again = await connect("ann");
    assert.equal((await subscribe(again, "presence-room")).members.count, 2);
    const typing = new Promise(done => ofAnn.bind("client-typing", (data, meta) => done([data, meta])));
    ofBen.trigger("client-typing", { at: 1 });
    assert.deepEqual(await within("client-typing", typing), [{ at: 1 }, { user_id: "ben" }]);
    assert.deepEqual(await json(backend.get({ path: "/channels/presence-room/users" })), {
      users: [{ id: "ann" }, { id: "ben" }],
    });
    assert.deepEqual(
      await json(
        backend.get({
          path: "/channels",
          params: { filter_by_prefix: "presence-", info: "user_count" },
        }),
      ),
      { channels: { "presence-room": { user_count: 2 } } },
    );
    const removed = once(ofAnn, "pusher:member_removed");
    ben.disconnect();
    assert.deepEqual(await removed, { id: "ben", info: { name: "BEN" } });
    assert.equal(ofAnn.members.count, 1);
    again.disconnect();
    ann.disconnect();
  },

  async "an encrypted channel"() {
    const client = await connect();
    const channel = await subscribe(client, "private-encrypted-room");
    const event = once(channel, "e");
    await backend.trigger("private-encrypted-room", "e", { secret: 7 });
    assert.deepEqual(await event, { secret: 7 });
    client.disconnect();
  },

  async "cache channels"() {
    const [first, second] = [await connect(), await connect()];
    const channel = first.subscribe("cache-news");
    await once(channel, "pusher:cache_miss");
    await backend.trigger("cache-news", "headline", { n: 1 });
    const cached = second.subscribe("cache-news");
    assert.deepEqual(await once(cached, "headline"), { n: 1 });
    const { cache } = await json(backend.get({ path: "/channels/cache-news", params: { info: "cache" } }));
    assert.equal(cache.data, '{"n":1}');
    assert(0 < cache.ttl && cache.ttl <= 1800);
    first.disconnect();
    second.disconnect();
  },

  async "a user who signs in, is watched, gets events and is thrown out"() {
    const ann = await connect("ann", { watchlist: ["ben"] });
    const seen = [];
    for (const name of ["online", "offline"]) {
      ann.user.watchlist.bind(name, ({ user_ids }) => seen.push([name, ...user_ids]));
    }
    const until = async count => {
      while (seen.length < count) {
        await new Promise(done => setTimeout(done, 5));
      }
    };
    ann.signin();
    await within("ann", ann.user.signinDonePromise);
    await within("offline", until(1));
    const ben = await connect("ben");
    ben.signin();
    await within("ben", ben.user.signinDonePromise);
    await within("online", until(2));
    const event = once(ben.user, "hello");
    await backend.sendToUser("ben", "hello", { to: "ben" });
    assert.deepEqual(await event, { to: "ben" });
    const ended = once(ben.connection, "disconnected");
    await backend.terminateUserConnections("ben");
    await ended;
    await within("offline", until(3));
    assert.deepEqual(seen, [["offline", "ben"], ["online", "ben"], ["offline", "ben"]]);
    ann.disconnect();
  },

  async "a batch of events, and their channels"() {
    const client = await connect();
    const channels = [await subscribe(client, "batch-a"), await subscribe(client, "batch-b")];
    const events = channels.map(channel => once(channel, "e"));
    await backend.triggerBatch([
      { channel: "batch-a", name: "e", data: "A" },
      { channel: "batch-b", name: "e", data: { b: true } },
    ]);
    assert.deepEqual(await Promise.all(events), ["A", { b: true }]);
    const answer = backend.trigger("batch-a", "e", "x", { info: "subscription_count" });
    assert.deepEqual(await json(answer), { channels: { "batch-a": { subscription_count: 1 } } });
    const occupied = await json(backend.get({ path: "/channels", params: { filter_by_prefix: "batch-" } }));
    assert.deepEqual(occupied, { channels: { "batch-a": {}, "batch-b": {} } });
    client.disconnect();
  },

  async "a request with another secret"() {
    const stranger = new Pusher({ ...server, secret: "another" });
    await assert.rejects(stranger.trigger("news", "e", 1), error => error.status === 401);
  },

  async "Laravel Echo"() {
    const make = user =>
      new Echo({ broadcaster: "pusher", key, Pusher: PusherClient, ...options(user) });
    const [ann, ben] = [make("ann"), make("ben")];
    const here = once => new Promise(done => once(done));
    const joined = here(done => ann.join("chat").here(done));
    assert.deepEqual(await within("here", joined), [{ name: "ANN" }]);
    const joining = here(done => ann.join("chat").joining(done));
    await within("here", here(done => ben.join("chat").here(done)));
    assert.deepEqual(await within("joining", joining), { name: "BEN" });
    const whisper = here(done => ann.private("room").listenForWhisper("typing", done));
    const subscribed = user => here(done => user.private("room").subscribed(done));
    await within("subscriptions", Promise.all([subscribed(ann), subscribed(ben)]));
    ben.private("room").whisper("typing", { n: 1 });
    assert.deepEqual(await within("whisper", whisper), { n: 1 });
    const event = here(done => ben.private("room").listen(".order.shipped", done));
    await backend.trigger("private-room", "order.shipped", { id: 9 });
    assert.deepEqual(await within("event", event), { id: 9 });
    ann.disconnect();
    ben.disconnect();
  },

  async "an app that is not there is not tried again"() {
    const client = new PusherClient("unknown", options());
    const ended = once(client.connection, "disconnected");
    const error = await once(client.connection, "error");
    assert.equal(error.data?.code ?? error.error?.data?.code, 4001);
    await ended;
  },
};

for (const [name, step] of Object.entries(steps)) {
  try {
    await step();
    console.log(`ok ${name}`);
  } catch (error) {
    console.error(`${name}: ${error.stack}`);
    process.exit(1);
  }
}
process.exit(0);
