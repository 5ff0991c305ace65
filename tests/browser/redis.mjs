// Messages that another program publishes in Redis, on the demo page: node redis.mjs WATERWHEEL CHROMIUM
//
// The application says `PUBLISH new-users x`, and the browser shows it, by the topic and by a pattern. Redis goes away
// and comes back: the page says that messages may be missing, and is not deaf.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [program, browserPath] = process.argv.slice(2);

const free = createServer().listen(0, "127.0.0.1");
await once(free, "listening");
const { port } = free.address();
free.close();

const cli = (...words) => execFileSync("redis-cli", ["-p", port, ...words], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
async function startRedis() {
  const child = spawn("redis-server", ["--port", port, "--bind", "127.0.0.1", "--save", ""], { stdio: "ignore" });
  process.once("exit", () => child.kill("SIGKILL"));
  for (;;) {
    try { if (cli("PING") === "PONG") return child; } catch { await new Promise(resolve => setTimeout(resolve, 10)); }
  }
}

const watchdog = setTimeout(() => { throw new Error("the test did not come to its end"); }, 60_000);
let redis = await startRedis();
const hub = spawn(program, ["--listen", "127.0.0.1:0", "--log", "error", "--redis", `redis://127.0.0.1:${port}`], { stdio: ["ignore", "pipe", "inherit"] });
process.once("exit", () => hub.kill("SIGKILL"));
const [line] = await once(createInterface({ input: hub.stdout }), "line");
const url = line.replace("listening on ", "");

const browser = await chromium.launch({ executablePath: browserPath, args: ["--headless", "--no-sandbox", "--disable-gpu"] });
const page = await browser.newPage();
await page.goto(url);
const subscribed = () => page.waitForFunction(() => [...document.querySelectorAll("#topics li")].every(row => row.dataset.state === "subscribed"));
for (const name of ["new-users", "notifications.*"]) {
  await page.fill("#topic-name", name);
  await page.click("#topic-add");
}
await subscribed();
const shows = text => page.waitForFunction(text => [...document.querySelectorAll("#live-log .data")].some(node => node.textContent === text), text);
assert.equal(cli("PUBLISH", "new-users", "x"), "1");
await shows("x");
assert.equal(cli("PUBLISH", "notifications.sale", "y"), "1");
await shows("y");

redis.kill("SIGKILL");
await once(redis, "exit");
redis = await startRedis();
await page.waitForSelector("#live-log .gap");
await page.waitForFunction(async () => (await fetch("readyz")).ok);
assert.equal(cli("PUBLISH", "new-users", "again"), "1");
await shows("again");
const lines = await page.$$eval("#live-log .data", nodes => nodes.map(node => node.textContent));
assert.deepEqual(lines, ["x", "y", "again"]);

await browser.close();
hub.kill();
redis.kill();
clearTimeout(watchdog);
