// npm's `pusher-js` as the client and `pusher` as the backend of an app: `node drive.mjs PORT ID KEY SECRET`. Prints
// `ok NAME` for each step that went as it should, and ends with 1 at the first that did not.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

// They are installed beside the driver of the browser.
const require = createRequire(new URL("../browser/package.json", import.meta.url));
const PusherClient = require("pusher-js");
const Pusher = require("pusher");

const [port, appId, key, secret] = process.argv.slice(2);
const backend = new Pusher({ appId, key, secret, host: "127.0.0.1", port, useTLS: false });

/** A promise that fails after a while, so that nothing is waited for in vain. */
const within = (what, promise) =>
  Promise.race([
    promise,
    new Promise((_, fail) => setTimeout(() => fail(new Error(`no ${what}`)), 20_000)),
  ]);

const once = (emitter, name) => within(name, new Promise(done => emitter.bind(name, done)));

const connect = async () => {
  const client = new PusherClient(key, {
    cluster: "",
    wsHost: "127.0.0.1",
    wsPort: port,
    forceTLS: false,
    enabledTransports: ["ws"],
    disableStats: true,
    channelAuthorization: {
      customHandler: ({ socketId, channelName }, done) =>
        done(null, backend.authorizeChannel(socketId, channelName)),
    },
  });
  await once(client.connection, "connected");
  return client;
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
    const client = new PusherClient(key, {
      cluster: "",
      wsHost: "127.0.0.1",
      wsPort: port,
      forceTLS: false,
      enabledTransports: ["ws"],
      channelAuthorization: { customHandler: (_, done) => done(null, { auth: `${key}:00` }) },
    });
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

  async "an app that is not there is not tried again"() {
    const client = new PusherClient("unknown", {
      cluster: "",
      wsHost: "127.0.0.1",
      wsPort: port,
      forceTLS: false,
      enabledTransports: ["ws"],
    });
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
