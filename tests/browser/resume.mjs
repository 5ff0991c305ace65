// The browser client through breaks and refusals in a real browser: node resume.mjs WATERWHEEL CHROMIUM
//
// The server's sockets are cut 20 times, then WebSockets are refused, then event streams too, then all is allowed
// again. The demo page shows 2,000 numbered messages. Waits are short; WATERWHEEL_FULL=1 takes the client's own times and
// refuses for 40 s each.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [program, browserPath] = process.argv.slice(2);
const isFull = Boolean(process.env.WATERWHEEL_FULL);
const timing = isFull ? undefined : { answer: 2000, silence: 8000, better: 1000, pauseMax: 500, wait: 2 };
const refusedMs = isFull ? 40_000 : 1500;
const COUNT = 2000;

const server = spawn(program, ["--listen", "127.0.0.1:0", "--log", "warn", "--topic", "*=history=2000,age=300"], { stdio: ["ignore", "pipe", "inherit"] });
process.once("exit", () => server.kill("SIGKILL"));
const [line] = await once(createInterface({ input: server.stdout }), "line");
const { port, origin } = new URL(line.replace("listening on ", ""));

// The client is for pages of any origin, and all else is not.
const foreign = { Origin: "https://elsewhere.example" };
for (const path of ["waterwheel.js", "waterwheel.d.ts"]) {
  const response = await fetch(`${origin}/${path}`, { headers: foreign });
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("access-control-allow-origin"), "*");
  assert.match(await response.text(), /Waterwheel/);
  const known = await fetch(`${origin}/${path}`, { headers: { "If-None-Match": response.headers.get("etag") } });
  assert.equal(known.status, 304);
}
assert.equal((await fetch(`${origin}/healthz`, { headers: foreign })).status, 403);

// Between the page and the hub: it can cut what is open, and refuse requests by their path.
const refused = new Set();
const open = new Set();
const relay = createServer(client => {
  const hub = connect(Number(port), "127.0.0.1");
  const end = () => [client, hub].forEach(socket => socket.destroy());
  open.add(end);
  client.on("data", bytes => {
    const path = /^\w+ \/(\w+)/.exec(bytes.toString("latin1"))?.[1];
    if (refused.has(path)) end();
    else hub.write(bytes);
  });
  hub.on("data", bytes => client.write(bytes));
  for (const socket of [client, hub]) socket.on("close", () => [end(), open.delete(end)]).on("error", () => {});
});
const cut = () => open.forEach(end => end());
await new Promise(resolve => relay.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${relay.address().port}`;

const watchdog = setTimeout(() => { throw new Error("the test did not come to its end"); }, isFull ? 600_000 : 120_000);
const browser = await chromium.launch({ executablePath: browserPath, args: ["--headless", "--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage();
page.setDefaultTimeout(100_000);
if (timing) {
  // The demo page takes the client's own times. Here they are shorter.
  await page.route("**/waterwheel.js", async route => {
    const response = await route.fetch();
    const text = await response.text();
    const short = text.replace("...timing }", `...${JSON.stringify(timing)}, ...timing }`);
    assert.notEqual(short, text);
    await route.fulfill({ response, body: short });
  });
}
// The page keeps 500 lines, so each is noted when it comes.
await page.addInitScript(() => {
  window.got = [];
  window.gaps = [];
  window.states = [];
  addEventListener("DOMContentLoaded", () => {
    const note = (id, call) => new MutationObserver(changes => changes.forEach(call)).observe(document.getElementById(id), { childList: true, characterData: true, subtree: true });
    note("live-log", ({ addedNodes, target }) => {
      if (target.id !== "live-log") return;
      for (const line of addedNodes) {
        if (line.querySelector(".gap")) window.gaps.push(line.textContent);
        if (line.querySelector(".topic")?.textContent === "numbers") window.got.push(Number(line.querySelector(".data").textContent));
      }
    });
    note("state", ({ target }) => window.states.push(target.textContent));
  });
});
await page.goto(url);
await page.fill("#topic-name", "numbers");
await page.click("#topic-add");
await page.waitForFunction(() => document.querySelector("#topics li:last-child").dataset.state === "subscribed");

const on = transport => page.waitForFunction(transport => window.states.at(-1) === transport, transport);
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

let published = 0;
async function publish(count) {
  while (count-- > 0 && published < COUNT) {
    const body = JSON.stringify(published++);
    const response = await fetch(`${origin}/publish?topic=numbers`, { method: "POST", body, headers: { "Content-Type": "application/json" } });
    assert.equal(response.status, 200);
  }
}
const has = count => page.waitForFunction(count => window.got.length >= count, count);
// Publishes for as long as something is refused.
async function publishFor(ms) {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(ms / 100)) await publish(3);
}

await on("WebSocket");
for (let n = 0; n < 20; n++) {
  await publish(20);
  cut();
  await publish(10);
  if (n % 4 === 3) await on("WebSocket");
}
await has(published);
await on("WebSocket");

refused.add("ws");
cut();
await publishFor(refusedMs);
await on("Event stream");
await has(published);
refused.add("events");
cut();
await publishFor(refusedMs);
await on("Long poll");
await has(published);
refused.clear();
const allowedAt = Date.now();
const rest = publish(COUNT);
await on("WebSocket");
const backMs = Date.now() - allowedAt;
await rest;
await has(COUNT);
const { got, gaps, states } = await page.evaluate(() => ({ got: window.got, gaps: window.gaps, states: window.states }));
assert.deepEqual(got, Array.from({ length: COUNT }, (_, index) => index));
assert.deepEqual(gaps, []);
if (isFull) {
  console.log(`back on WebSocket after ${backMs} ms; ${states.length} states`);
  assert(backMs < 60_000);
}
await browser.close();
relay.close();
cut();
server.kill();
clearTimeout(watchdog);
