// Drives the program with AnyCable's client, @anycable/core, unmodified, and its extended protocol. Arguments: the port, and
// names of two streams that the application has signed. Each step that holds is one line.

import { createRequire } from "node:module";

const require = createRequire(new URL("../browser/package.json", import.meta.url));
const WebSocket = require("ws");
const core = new URL("../browser/node_modules/@anycable/core/", import.meta.url);
const { createCable, Channel } = await import(new URL("index.js", core));

const [port, news] = process.argv.slice(2);

function step(name) {
  console.log(name);
}

function fail(why) {
  console.error(why);
  process.exit(1);
}

setTimeout(() => fail("no end within 60 seconds"), 60_000).unref();

const cable = () =>
  createCable(`ws://127.0.0.1:${port}/cable`, {
    protocol: "actioncable-v1-ext-json",
    websocketImplementation: WebSocket,
    websocketOptions: {},
  });

async function publish(stream, data) {
  const answer = await fetch(`http://127.0.0.1:${port}/_broadcast`, {
    method: "POST",
    body: JSON.stringify({ stream, data: JSON.stringify(data) }),
    headers: { Authorization: "Bearer broadcast-key-of-tests" },
  });
  if (answer.status !== 201) fail(`broadcast: ${answer.status}`);
}

/** The events of a channel, in their order. */
function events(channel, name) {
  const all = [];
  let wake = () => {};
  channel.on(name, event => {
    all.push(event);
    wake();
  });
  return async () => {
    while (all.length === 0) await new Promise(resolve => (wake = resolve));
    return all.shift();
  };
}

async function expect(promise, wanted) {
  const got = JSON.stringify(await promise);
  if (got !== JSON.stringify(wanted)) fail(`got ${got}, wanted ${JSON.stringify(wanted)}`);
}

const consumer = cable();
const channel = consumer.streamFromSigned(news);
const next = events(channel, "message");
await channel.ensureSubscribed();
if (!consumer.sessionId) fail("there is no session");
step("a session begins");

await publish("news", { n: 1 });
await expect(next(), { n: 1 });
step("a broadcast is received");

// The connection is cut under the client, which comes back by itself.
const connected = new Promise(resolve => consumer.on("connect", resolve));
consumer.transport.ws.terminate();
await publish("news", { n: 2 });
await publish("news", { n: 3 });
await connected;
await expect(next(), { n: 2 });
await expect(next(), { n: 3 });
await publish("news", { n: 4 });
await expect(next(), { n: 4 });
step("the history over a cut is received once, in order");

const other = cable();
const theirs = other.streamFromSigned(news);
const whispered = events(theirs, "message");
await theirs.ensureSubscribed();
await channel.whisper({ typing: true });
// The client asks for the history of this second, in which there were broadcasts.
let message = await whispered();
while (message.n) message = await whispered();
if (!message.typing) fail(`got ${JSON.stringify(message)}`);
step("a whisper is received");

const joined = events(theirs, "presence");
await channel.presence.join("u1", { name: "Ann" });
await expect(joined(), { type: "join", id: "u1", info: { name: "Ann" } });
await expect(theirs.presence.info(), { u1: { name: "Ann" } });
await joined();
await channel.presence.leave();
await expect(joined(), { type: "leave", id: "u1" });
step("users join and leave");
process.exit(0);
