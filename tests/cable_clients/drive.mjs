// Drives the program with the client of Rails, @rails/actioncable, unmodified. Arguments: the port, and names of two
// streams that the application has signed. Each step that holds is one line.

import { createRequire } from "node:module";
import { once } from "node:events";

const require = createRequire(new URL("../browser/package.json", import.meta.url));
const WebSocket = require("ws");

// The parts of a page that the client looks at.
globalThis.document = { visibilityState: "visible", head: { querySelector: () => null } };
globalThis.window = globalThis;
globalThis.addEventListener = () => {};
globalThis.removeEventListener = () => {};
const { adapters, createConsumer } = require("@rails/actioncable");
adapters.WebSocket = WebSocket;

const [port, news, other] = process.argv.slice(2);
const origin = `http://127.0.0.1:${port}`;

function step(name) {
  console.log(name);
}

function fail(why) {
  console.error(why);
  process.exit(1);
}

setTimeout(() => fail("no end within 60 seconds"), 60_000).unref();

/** A subscription whose callbacks are promises. */
function subscribe(consumer, params) {
  const received = [];
  let wake = () => {};
  const calls = {};
  const called = name => new Promise(resolve => (calls[name] = resolve));
  const outcome = {
    connected: called("connected"),
    rejected: called("rejected"),
    disconnected: called("disconnected"),
    async next() {
      while (received.length === 0) await new Promise(resolve => (wake = resolve));
      return received.shift();
    },
  };
  outcome.subscription = consumer.subscriptions.create(params, {
    connected: () => calls.connected(),
    rejected: () => calls.rejected(),
    disconnected: details => calls.disconnected(details),
    received: data => {
      received.push(data);
      wake();
    },
  });
  return outcome;
}

async function publish(stream, data) {
  const url = `${origin}/_broadcast`;
  const body = JSON.stringify({ stream, data: JSON.stringify(data) });
  const answer = await fetch(url, { method: "POST", body, headers: { Authorization: "Bearer broadcast-key-of-tests" } });
  if (answer.status !== 201) fail(`broadcast: ${answer.status}`);
}

async function expect(promise, wanted) {
  const got = JSON.stringify(await promise);
  if (got !== JSON.stringify(wanted)) fail(`got ${got}, wanted ${JSON.stringify(wanted)}`);
}

const consumer = createConsumer(`ws://127.0.0.1:${port}/cable`);
const channel = { channel: "$pubsub", signed_stream_name: news };
const first = subscribe(consumer, channel);
await first.connected;
step("a subscription is confirmed");

await publish("news", { x: 1 });
await expect(first.next(), { x: 1 });
await publish("news", "<turbo-stream></turbo-stream>");
await expect(first.next(), "<turbo-stream></turbo-stream>");
step("broadcasts are received");

const rejected = subscribe(consumer, { channel: "$pubsub", signed_stream_name: `${news}0` });
await rejected.rejected;
step("a name that is not signed is rejected");

const second = subscribe(consumer, { ...channel, tab: 2 });
await second.connected;
await publish("news", 3);
await expect(first.next(), 3);
await expect(second.next(), 3);
step("two subscriptions to one stream each receive");

first.subscription.unsubscribe();
const elsewhere = subscribe(consumer, { channel: "$pubsub", signed_stream_name: other });
await elsewhere.connected;
await publish("news", 4);
await publish("other", 5);
await expect(second.next(), 4);
await expect(elsewhere.next(), 5);
step("an ended subscription receives no more");

// The client ends a connection without a ping for six seconds.
const pings = [];
const plain = new WebSocket(`ws://127.0.0.1:${port}/cable`, ["actioncable-v1-json"]);
plain.on("message", text => JSON.parse(text).type === "ping" && pings.push(Date.now()));
await once(plain, "open");
while (pings.length < 3) await once(plain, "message");
plain.close();
if (consumer.connection.monitor.reconnectAttempts !== 0) fail("the client has reconnected");
step("pings keep the connection");

// The test restarts the server when it reads the next line.
const gone = second.disconnected;
step("ready for a restart");
const details = await gone;
if (details && details.willAttemptReconnect === false) fail("the client was told not to come back");
while (!consumer.connection.isOpen()) await new Promise(resolve => setTimeout(resolve, 50));
for (;;) {
  await publish("news", 6);
  const got = await Promise.race([second.next(), new Promise(resolve => setTimeout(resolve, 200))]);
  if (got === 6) break;
}
step("the client comes back, and is subscribed again");
process.exit(0);
