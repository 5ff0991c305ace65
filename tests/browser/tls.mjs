// The hub over https:// and wss:// in a real browser, which checks certificates: node tls.mjs WATERWHEEL CHROMIUM
//
// Prints nothing when all is well, and ends with a status other than 0 when something is not. The browser trusts the
// authority of tests/certificates because it stands in the NSS database of its home directory, which goes with the
// test: `certutil` makes it.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const [program, browserPath] = process.argv.slice(2);
const DEADLINE_MS = 60_000;
const file = name => fileURLToPath(new URL(`../certificates/${name}`, import.meta.url));

// The port of a server with this certificate.
async function serve(name) {
  const words = ["--listen", "tls:127.0.0.1:0", "--tls-certificate", file(`${name}.pem`), "--tls-key", file(`${name}.key`)];
  const server = spawn(program, [...words, "--log", "error"], { stdio: ["ignore", "pipe", "inherit"] });
  process.once("exit", () => server.kill("SIGKILL"));
  const died = once(server, "exit").then(([code]) => { throw new Error(`the server ended with status ${code}`); });
  died.catch(() => {});
  const [line] = await Promise.race([once(createInterface({ input: server.stdout }), "line"), died]);
  return new URL(line.match(/^listening on (https:\/\/\S+)$/)[1]).port;
}

// A browser with a home directory of its own, where the authorities of these files are trusted.
async function browse(authorities, check) {
  const home = mkdtempSync(join(tmpdir(), "waterwheel-browser-"));
  const database = join(home, ".pki/nssdb");
  mkdirSync(database, { recursive: true });
  const certutil = (...words) => execFileSync("certutil", ["-d", `sql:${database}`, ...words], { stdio: "pipe" });
  certutil("-N", "--empty-password");
  for (const name of authorities) certutil("-A", "-n", name, "-t", "C,,", "-i", file(name));
  const args = ["--headless", "--no-sandbox", "--disable-gpu"];
  const browser = await chromium.launch({ executablePath: browserPath, args, env: { ...process.env, HOME: home } });
  const page = await browser.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  await check(page);
  await browser.close();
  rmSync(home, { recursive: true });
}

// The close code of a WebSocket from within the page, and the words of the browser about it.
async function refusal(page, url) {
  const said = page.waitForEvent("console", message => message.text().includes(url));
  const code = await page.evaluate(url => new Promise(resolve => {
    new WebSocket(url).onclose = event => resolve(event.code);
  }), url);
  return [code, (await said).text()];
}

const subscribed = (page, transport) =>
  page.waitForFunction(transport =>
    document.getElementById("state").textContent === transport
    && [...document.querySelectorAll("#topics li")].every(row => row.dataset.state === "subscribed"), transport);

const shows = (page, text) =>
  page.waitForFunction(text => [...document.querySelectorAll("#chat-log .data")].some(node => node.textContent === text), text);

const watchdog = setTimeout(() => { throw new Error("the browser test did not come to its end"); }, 3 * DEADLINE_MS);
const [port, strangersPort, othersPort] = [await serve("server"), await serve("self_signed"), await serve("other")];
const hub = `https://localhost:${port}/`;

await browse(["ca.pem"], async page => {
  const errors = [];
  page.on("console", message => { if (["error", "warning"].includes(message.type())) errors.push(message.text()); });
  page.on("pageerror", error => errors.push(String(error)));
  const sockets = [];
  page.on("websocket", socket => sockets.push(socket.url()));
  const details = await (await page.goto(hub)).securityDetails();
  assert.deepEqual([details.protocol, details.subjectName, details.issuer], ["TLS 1.3", "server", "ca"]);

  // Messages of the page and of others, over wss:// and then over an event stream.
  for (const [choice, transport] of [["best", "WebSocket"], ["plain", "Event stream"]]) {
    await page.selectOption("#transport", choice);
    await subscribed(page, transport);
    await page.fill("#chat-text", `said over ${transport}`);
    await page.press("#chat-text", "Enter");
    await shows(page, `said over ${transport}`);
    const long = `${transport} ${"long ".repeat(50_000)}`;
    const delivered = await page.evaluate(async body =>
      (await (await fetch("/publish?topic=chat", { method: "POST", body })).json()).delivered, long);
    assert.equal(delivered, 1);
    await shows(page, long);
  }
  assert(sockets.length !== 0 && sockets.every(url => url.startsWith(`wss://localhost:${port}/`)), sockets.join());
  assert.deepEqual(errors, []);

  // A certificate that signed itself, and one for another name; from a page whose policy allows all addresses.
  await page.goto("about:blank");
  const wrong = [[strangersPort, "net::ERR_CERT_AUTHORITY_INVALID"], [othersPort, "net::ERR_CERT_COMMON_NAME_INVALID"]];
  for (const [port, error] of wrong) {
    const [code, text] = await refusal(page, `wss://localhost:${port}/ws`);
    assert.equal(code, 1006);
    assert(text.includes(error), text);
  }
  for (const [port, error] of wrong) {
    const another = await page.context().browser().newPage();
    await assert.rejects(another.goto(`https://localhost:${port}/`), failure => failure.message.includes(error));
  }
});

// Without the authority the same server is refused.
await browse([], async page => {
  await assert.rejects(page.goto(hub), failure => failure.message.includes("net::ERR_CERT_AUTHORITY_INVALID"));
});
clearTimeout(watchdog);
process.exit();
