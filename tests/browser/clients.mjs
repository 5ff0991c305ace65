// The clients that applications have, on one port and in one page of a real browser: node clients.mjs WATERWHEEL CHROMIUM [PICTURE]
//
// pusher-js, @rails/actioncable with @hotwired/turbo, and EventSource. Each hears what its own backend publishes, and the
// hub's EventSource hears all of them. Then the server restarts, and each comes back. Prints nothing when all is well.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac, pbkdf2Sync } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const Pusher = require("pusher");

const [program, browserPath, picture] = process.argv.slice(2);
const DEADLINE_MS = 60_000;
const [APP, KEY, SECRET] = ["3", "app-key", "app-secret"];
const SECRET_KEY_BASE = "secret-key-base-of-the-tests";
const module = path => readFileSync(fileURLToPath(new URL(`node_modules/${path}`, import.meta.url)), "utf8");

async function serve(port) {
  const words = ["--listen", `127.0.0.1:${port}`, "--log", "error", "--drain-window", "0"];
  const roles = ["--pusher-app", `${APP}:${KEY}:${SECRET}`, "--cable-secret", SECRET_KEY_BASE, "--cable-streams-key", "streams-key-of-the-tests"];
  const server = spawn(program, [...words, ...roles, "--topic", "news=history=10"], { stdio: ["ignore", "pipe", "inherit"] });
  process.once("exit", () => server.kill("SIGKILL"));
  const [line] = await once(createInterface({ input: server.stdout }), "line");
  return { server, port: new URL(line.match(/^listening on (http:\/\/\S+)$/)[1]).port };
}

const signed = (name, key) => {
  const encoded = Buffer.from(JSON.stringify(name)).toString("base64");
  return `${encoded}--${createHmac("sha256", key).update(encoded).digest("hex")}`;
};

// As Rails derives it.
const turboKey = pbkdf2Sync(SECRET_KEY_BASE, "turbo/signed_stream_verifier_key", 1000, 64, "sha256");

let { server, port } = await serve(0);
const origin = `http://127.0.0.1:${port}`;

const style = `
  body { font: 16px system-ui, sans-serif; margin: 24px; background: #f4f6f8; color: #1c2733 }
  h1 { font-size: 22px; margin: 0 0 16px } main { display: grid; grid-template-columns: 1fr 1fr; gap: 16px }
  section { background: #fff; border-radius: 10px; padding: 14px 18px; box-shadow: 0 1px 3px #0002; min-height: 130px }
  h2 { font-size: 16px; margin: 0 0 4px } small { color: #667 } ul { margin: 10px 0 0; padding: 0; list-style: none }
  li { padding: 4px 8px; margin: 4px 0; background: #eef4ff; border-radius: 6px; font: 14px ui-monospace, monospace }`;
const card = (id, title, words) => `<section><h2>${title}</h2><small>${words}</small><ul id="${id}"></ul></section>`;
const html = `<!doctype html><meta charset="utf-8"><title>One port</title><style>${style}</style>
  <h1>One port, the clients as they are</h1><main>
  ${card("pusher", "pusher-js 8", "channel news, triggered by the pusher package of npm")}
  ${card("cable", "@rails/actioncable 8", "channel $pubsub, broadcast over HTTP")}
  ${card("turbo", "@hotwired/turbo 8", "Turbo::StreamsChannel, a turbo-stream that is rendered")}
  ${card("events", "EventSource", "all of their topics, as Server-Sent Events")}</main>`;

const browser = await chromium.launch({ executablePath: browserPath, args: ["--headless", "--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage({ viewport: { width: 900, height: 480 }, deviceScaleFactor: 2 });
page.setDefaultTimeout(DEADLINE_MS);
// A page of the hub, so that it is of its own origin.
await page.goto(`${origin}/healthz`);
await page.setContent(html);
await page.addScriptTag({ content: module("pusher-js/dist/web/pusher.js") });
await page.addScriptTag({ content: module("@rails/actioncable/app/assets/javascripts/actioncable.js") });
await page.addScriptTag({ content: module("@hotwired/turbo/dist/turbo.es2017-umd.js") });

await page.evaluate(({ port, key, names }) => {
  const show = (list, text) => {
    const item = document.createElement("li");
    item.textContent = text;
    document.getElementById(list).append(item);
  };
  const options = { cluster: "", wsHost: "127.0.0.1", wsPort: port, forceTLS: false, enabledTransports: ["ws"], disableStats: true };
  const pusher = new Pusher(key, options);
  pusher.subscribe("news").bind("headline", data => show("pusher", data.text));
  pusher.subscribe("news").bind("pusher:subscription_succeeded", () => (document.body.dataset.pusher = "yes"));
  const consumer = ActionCable.createConsumer(`ws://127.0.0.1:${port}/cable`);
  const stream = (name, params, received) => consumer.subscriptions.create(params, {
    connected: () => (document.body.dataset[name] = "yes"),
    disconnected: () => delete document.body.dataset[name],
    rejected: () => (document.body.dataset[name] = "rejected"),
    received,
  });
  stream("cable", { channel: "$pubsub", signed_stream_name: names.news }, data => show("cable", data.text));
  // As the element <turbo-cable-stream-source> of Turbo's gem does.
  stream("turbo", { channel: "Turbo::StreamsChannel", signed_stream_name: names.board }, data => Turbo.renderStreamMessage(data));
  stream("stranger", { channel: "Turbo::StreamsChannel", signed_stream_name: names.news }, () => {});
  const source = new EventSource("/events?topic=news&topic=pusher:3:news");
  source.onopen = () => (document.body.dataset.events = "yes");
  source.addEventListener("headline", event => show("events", event.data));
  source.onmessage = event => show("events", event.data);
}, {
  port: Number(port),
  key: KEY,
  names: { news: signed("news", "streams-key-of-the-tests"), board: signed("board", turboKey) },
});

const ready = () => page.waitForFunction(() => ["pusher", "cable", "turbo", "events"].every(name => document.body.dataset[name] === "yes"));
const shows = (list, texts) => page.waitForFunction(
  ([list, texts]) => JSON.stringify([...document.getElementById(list).children].map(it => it.textContent)) === JSON.stringify(texts),
  [list, texts],
);
await ready();
await page.waitForFunction(() => document.body.dataset.stranger === "rejected");

const backend = new Pusher({ appId: APP, key: KEY, secret: SECRET, host: "127.0.0.1", port, useTLS: false });
async function broadcast(stream, data) {
  const token = createHmac("sha256", SECRET_KEY_BASE).update("broadcast-cable").digest("hex");
  const body = JSON.stringify({ stream, data: JSON.stringify(data) });
  const answer = await fetch(`${origin}/_broadcast`, { method: "POST", body, headers: { Authorization: `Bearer ${token}` } });
  assert.equal(answer.status, 201);
}
async function publish(number) {
  assert.equal((await backend.trigger("news", "headline", { text: `headline ${number}` })).status, 200);
  await broadcast("news", { text: `broadcast ${number}` });
  await broadcast("board", `<turbo-stream action="append" target="turbo"><template><li>rendered ${number}</li></template></turbo-stream>`);
}

await publish(1);
await shows("pusher", ["headline 1"]);
await shows("cable", ["broadcast 1"]);
await shows("turbo", ["rendered 1"]);
await shows("events", ['{"text":"headline 1"}', '{"text":"broadcast 1"}']);
await publish(2);
await shows("turbo", ["rendered 1", "rendered 2"]);
await shows("events", [1, 2].flatMap(number => [`{"text":"headline ${number}"}`, `{"text":"broadcast ${number}"}`]));
if (picture) await page.screenshot({ path: picture });

// The server ends, and another one begins on the same port.
await page.evaluate(() => ["pusher", "events"].forEach(name => delete document.body.dataset[name]));
server.kill("SIGTERM");
await once(server, "exit");
({ server } = await serve(port));
await ready();
await publish(3);
await shows("pusher", ["headline 1", "headline 2", "headline 3"]);
await shows("cable", ["broadcast 1", "broadcast 2", "broadcast 3"]);
await shows("turbo", ["rendered 1", "rendered 2", "rendered 3"]);
await browser.close();
server.kill("SIGTERM");
await once(server, "exit");
process.exit(0);
