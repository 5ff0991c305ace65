// The demo page in a real browser: node page.mjs WATERWHEEL CHROMIUM
//
// Prints nothing when all is well, and ends with a status other than 0 when something is not.
// With WATERWHEEL_SCREENSHOT=PATH a picture of the page is left there, with WATERWHEEL_SCREENSHOTS=FOLDER
// pictures of a phone and a desktop, light and dark.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [program, browserPath] = process.argv.slice(2);
const DEADLINE_MS = 60_000;
const HOSTILE = `<img src=x onerror="window.wasHacked = true"><script>window.wasHacked = true</script>`;

// ---- The server, which can die and come back at the same address.

class Server {
  static async start(address, ...options) {
    const server = new Server();
    server.process = spawn(program, ["--listen", address, "--drain-window", "0", "--log", "warn", ...options], { stdio: ["ignore", "pipe", "inherit"] });
    server.ended = once(server.process, "exit");
    process.once("exit", () => server.process.kill("SIGKILL"));
    const lines = createInterface({ input: server.process.stdout });
    const died = server.ended.then(([code]) => { throw new Error(`the server ended with status ${code}`); });
    died.catch(() => {});
    const [line] = await Promise.race([once(lines, "line"), died]);
    server.url = line.match(/^listening on (http:\/\/\S+)$/)[1];
    return server;
  }

  get address() {
    return new URL(this.url).host;
  }

  async end(signal) {
    this.process.kill(signal);
    await this.ended;
  }

  // Posts as curl does, and returns the id and how many got it.
  async publish(topic, body, type = "application/x-www-form-urlencoded") {
    return this.post(`${this.url}/publish?topic=${encodeURIComponent(topic)}`, body, type);
  }

  async post(url, body, type = "application/x-www-form-urlencoded") {
    const response = await fetch(url, { method: "POST", body, headers: { "content-type": type } });
    assert.equal(response.status, 200, await response.clone().text());
    return response.json();
  }
}

// ---- What the page shows. Each is a condition with the page's deadline, never a pause.

const connected = (page, transport = "WebSocket") =>
  page.waitForFunction(transport =>
    document.getElementById("state").textContent === transport
    && [...document.querySelectorAll("#topics li")].every(row => row.dataset.state === "subscribed"), transport);

const disconnected = page =>
  page.waitForFunction(() =>
    document.getElementById("state").dataset.state !== "connected"
    && [...document.querySelectorAll("#topics li")].every(row => row.dataset.state === "pending")
    && document.getElementById("chat-send").disabled);

const chatShows = (page, text) =>
  page.waitForFunction(text => [...document.querySelectorAll("#chat-log .data")].some(node => node.textContent === text), text);

// The line of a publication: it stands there once.
async function liveShows(page, id, text) {
  await page.waitForFunction(id => [...document.querySelectorAll("#live-log .when")].some(node => node.title === id), id);
  const lines = await page.$$eval("#live-log li", (lines, id) =>
    lines.filter(line => line.querySelector(".when")?.title === id).map(line => line.querySelector(".data").textContent), id);
  assert.deepEqual(lines, [text]);
}

// The topic, the event's name and the mark of the line about a publication.
const labels = (page, id) =>
  page.$$eval("#live-log li", (lines, id) =>
    lines.filter(line => line.querySelector(".when")?.title === id)
      .map(line => [".topic", ".event", ".again"].map(part => line.querySelector(part)?.textContent)), id);

const texts = (page, selector) => page.$$eval(selector, nodes => nodes.map(node => node.textContent));

async function arrives(server, page, text) {
  const { id } = await server.publish("chat", text);
  await liveShows(page, id, text);
  await chatShows(page, text);
  return id;
}

// ---- The story.

async function check(browser, server) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  const errors = [];
  const foreign = [];
  const note = address => {
    const { protocol, host } = new URL(address);
    if (protocol !== "data:" && host !== server.address) foreign.push(address);
  };
  page.on("console", message => { if (["error", "warning"].includes(message.type())) errors.push(message.text()); });
  page.on("pageerror", error => errors.push(String(error)));
  context.on("request", request => note(request.url()));
  page.on("websocket", socket => note(socket.url()));

  // A client that finds its server again over a lesser transport looks for a better one after 30 s; here sooner.
  await page.route("**/waterwheel.js", async route => {
    const response = await route.fetch();
    const text = await response.text();
    const short = text.replace("...timing }", "better: 1000, pauseMax: 500, ...timing }");
    assert.notEqual(short, text);
    await route.fulfill({ response, body: short });
  });
  const response = await page.goto(server.url);
  const policy = response.headers()["content-security-policy"].split("; ");
  for (const directive of ["default-src 'none'", "connect-src 'self'", "script-src 'self'"]) assert(policy.includes(directive), directive);
  await connected(page);
  // A script inside of the page does not run.
  await page.evaluate(() => {
    const script = document.createElement("script");
    script.textContent = "window.ranInline = true";
    document.body.append(script);
    script.remove();
  });
  assert.equal(await page.evaluate(() => window.ranInline), undefined);
  assert.match(errors.splice(0).join(), /Content Security Policy/);

  // What the page tells a newcomer to type is what is published here.
  const line = await page.inputValue("#curl");
  assert.equal(line, `curl -d hello '${server.url}/publish?topic=chat'`);
  const { id, delivered } = await server.post(line.match(/'(.*)'/)[1], "hello");
  assert.equal(delivered, 1);
  await liveShows(page, id, "hello");
  await chatShows(page, "hello");
  assert.equal(await page.textContent("#count"), "1 message");

  // The browser offers compression, and reads a long message.
  const long = "a long message ".repeat(1000);
  const received = page.evaluate(() => new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${location.host}/ws`);
    socket.onopen = () => socket.send("long");
    socket.onmessage = ({ data }) => {
      resolve([socket.extensions, data]);
      socket.close();
    };
    socket.onerror = () => reject(new Error("the socket failed"));
  }));
  while ((await server.publish("long", long)).delivered === 0);
  const [extensions, data] = await received;
  assert.match(extensions, /^permessage-deflate/);
  assert.equal(data, long);

  // What the reader writes comes back to the page that sent it.
  await page.fill("#chat-nick", "ada");
  await page.fill("#chat-text", "said in the page");
  await page.press("#chat-text", "Enter");
  await chatShows(page, "said in the page");
  assert.equal(await page.inputValue("#chat-text"), "");
  assert.equal(await page.textContent("#chat-log li:last-child .nick"), "ada");

  // Another topic joins without a loss or a double on the one that is there, also where both match.
  for (const name of ["news.*", "c*"]) {
    await page.fill("#topic-name", name);
    await page.click("#topic-add");
    await connected(page);
  }
  const news = await server.publish("news.today", "rain");
  await liveShows(page, news.id, "rain");
  const sum = await server.post(`${server.url}/publish?topic=chat&event=sum`, "4");
  await liveShows(page, sum.id, "4");
  assert.deepEqual(await labels(page, sum.id), [["chat", "sum", undefined]]);
  assert.deepEqual(await labels(page, news.id), [["news.today", undefined, undefined]]);
  await arrives(server, page, "still here");
  await arrives(server, page, "two\nlines");

  // Strangers' words stay text, in every place.
  await arrives(server, page, HOSTILE);
  await server.publish("chat", JSON.stringify({ nick: HOSTILE, text: `as JSON ${HOSTILE}` }), "application/json");
  await chatShows(page, `as JSON ${HOSTILE}`);
  await page.fill("#topic-name", HOSTILE);
  await page.click("#topic-add");
  await connected(page);
  assert.equal(await page.textContent("#topics li:last-child span"), HOSTILE);
  await page.click("#topics li:last-child button");
  await connected(page);
  assert.equal(await page.locator("main img, main script").count(), 0);
  assert.equal(await page.evaluate(() => window.wasHacked), undefined);
  assert.deepEqual(errors, []);

  // A break that the reader makes: what was published meanwhile comes again, in its place, and the page says so.
  await page.click("#break");
  await disconnected(page);
  const missed = [await server.publish("chat", "first"), await server.publish("chat", "second")];
  await connected(page);
  for (const [index, text] of ["first", "second"].entries()) {
    await liveShows(page, missed[index].id, text);
    assert.deepEqual(await labels(page, missed[index].id), [["chat", undefined, "again"]]);
  }
  await page.waitForSelector("#chat-log .note");
  for (const log of ["#chat-log", "#live-log"]) {
    assert.match((await texts(page, `${log} .note`)).at(-1), /^back after \d+ s: 2 messages came again, none is missing$/);
  }
  const after = await arrives(server, page, "live again");
  assert.deepEqual(await labels(page, after), [["chat", undefined, undefined]]);
  assert.deepEqual(await texts(page, ".gap"), []);

  // Without WebSockets the page goes on over an event stream, and loses nothing on the way.
  await page.selectOption("#transport", "plain");
  const between = await server.publish("chat", "in between");
  await connected(page, "Event stream");
  await liveShows(page, between.id, "in between");
  await arrives(server, page, "over the stream");
  await page.selectOption("#transport", "best");
  await page.reload();
  await connected(page);
  assert.deepEqual(errors, []);

  // A server that dies, and one that says goodbye: the page says so, is back with the next, and shows the gap.
  await arrives(server, page, "before the end");
  for (const signal of ["SIGKILL", "SIGTERM"]) {
    await server.end(signal);
    await disconnected(page);
    // The browser itself notes each failed attempt.
    server = await Server.start(server.address);
    await connected(page);
    await arrives(server, page, `back after ${signal}`);
    assert.deepEqual(await texts(page, "#chat-log .gap"), ["messages may be missing here"], signal);
    assert.deepEqual(await texts(page, "#live-log .gap"), ["messages may be missing here"], signal);
    const notes = await texts(page, "#live-log .note");
    assert(notes.every(note => /^back after \d+ s: 0 messages came again/.test(note)), notes.join("\n"));
    await page.$$eval(".log :is(.gap, .note)", marks => marks.forEach(mark => mark.remove()));
    assert.deepEqual(errors.splice(0).filter(text => !/net::ERR_|status of 503|WebSocket connection to/.test(text)), []);
  }

  // A network that comes back is no reason to leave a link that works.
  const shown = await page.evaluate(() => {
    dispatchEvent(new Event("online"));
    return document.getElementById("state").textContent;
  });
  assert.equal(shown, "WebSocket");
  await arrives(server, page, "the last");
  assert.deepEqual(errors, []);
  assert.deepEqual(foreign, []);
  await context.close();
  return server;
}

// Where publishing needs a token, the page asks for it and loses nothing that was written.
async function checkToken(browser, server, token) {
  const page = await browser.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  await page.goto(server.url);
  await connected(page);
  // The line to copy has the header from the start, because it would be refused without.
  assert.match(await page.inputValue("#curl"), /^curl -d hello -H "Authorization: Bearer /);
  assert(await page.isVisible("#token"));
  await page.fill("#chat-text", "let me in");
  await page.press("#chat-text", "Enter");
  await page.waitForSelector("#error");
  assert.equal(await page.inputValue("#chat-text"), "let me in");

  // A wrong token is not shown.
  await page.fill("#token", "my-other-password");
  await page.press("#token", "Enter");
  await page.waitForFunction(() => /token/.test(document.getElementById("error-text").textContent));
  await connected(page);
  assert(!(await page.textContent("body")).includes("my-other-password"));

  // A pattern that is refused leaves the topics that are there.
  await page.fill("#topic-name", "news.*");
  await page.click("#topic-add");
  await page.waitForFunction(() => /refused news/.test(document.getElementById("error-text").textContent));
  assert.deepEqual(await page.$$eval("#topics li", rows => rows.map(row => row.dataset.state)), ["subscribed", "refused"]);

  await page.fill("#token", token);
  await page.press("#token", "Enter");
  await connected(page);
  await page.press("#chat-text", "Enter");
  await chatShows(page, "let me in");
  assert(!await page.isVisible("#error"));
  await page.close();
}

// On a phone: a refusal is in sight, nothing is wider than the screen, and words have room.
async function checkPhone(browser, server, token) {
  const context = await browser.newContext({ viewport: { width: 360, height: 740 } });
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  await page.goto(server.url);
  await connected(page);
  await page.fill("#topic-name", "t".repeat(200));
  await page.click("#topic-add");
  await connected(page);
  const publish = (topic, body) => server.post(`${server.url}/publish?token=${token}&event=price&topic=${topic}`, body, "application/json");
  const { id } = await publish("chat", JSON.stringify({ nick: "ada", text: "a sentence with some words" }));
  await liveShows(page, id, JSON.stringify({ nick: "ada", text: "a sentence with some words" }));
  const box = async (selector, index = 0) => page.locator(selector).nth(index).boundingBox();
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  assert(250 < (await box("#chat-log .data")).width, "the message has the whole line");
  assert((await box(".link")).height < 40, "a pill is one line");
  const [text, send] = [await box("#chat-text"), await box("#chat-send")];
  assert.equal(Math.round(text.y), Math.round(send.y), "the button stands beside the text");
  const [remove, pill] = [await box("#topics li:last-child button"), await box("#topics li:last-child")];
  assert(remove.x + remove.width <= pill.x + pill.width);
  await page.fill("#chat-text", "refused");
  await page.press("#chat-text", "Enter");
  await page.waitForSelector("#error");
  const error = await box("#error");
  assert(0 <= error.y && error.y + error.height <= 740, "the refusal is in sight");
  if (process.env.WATERWHEEL_SCREENSHOTS) {
    for (const [name, width, colorScheme] of [["phone-light", 360, "light"], ["phone-dark", 360, "dark"], ["desktop-light", 1200, "light"], ["desktop-dark", 1200, "dark"]]) {
      await page.setViewportSize({ width, height: 740 });
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: `${process.env.WATERWHEEL_SCREENSHOTS}/${name}.png` });
      await page.screenshot({ path: `${process.env.WATERWHEEL_SCREENSHOTS}/${name}-full.png`, fullPage: true });
    }
  }
  await context.close();
}

async function photograph(browser, server, path) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, locale: "en-GB" });
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  await page.goto(server.url);
  await connected(page);
  await page.fill("#topic-name", "orders.*");
  await page.click("#topic-add");
  await connected(page);
  const say = (nick, text) => server.publish("chat", JSON.stringify({ nick, text }), "application/json");
  const order = state => server.publish("orders.4711", JSON.stringify(state), "application/json");
  await arrives(server, page, "hello");
  await say("bob", "hello, terminal!");
  await page.fill("#chat-nick", "ada");
  await page.fill("#chat-text", "hi from the page");
  await page.press("#chat-text", "Enter");
  await chatShows(page, "hi from the page");
  await order({ state: "paid", total: 42.5 });
  await say("bob", "4711 is paid");
  await order({ state: "shipped" });
  await page.click("#break");
  await disconnected(page);
  await say("bob", "are you still there?");
  await order({ state: "delivered" });
  await connected(page);
  await page.waitForFunction(() => document.querySelectorAll("#live-log li").length === 9);
  await page.locator("#chat-text").blur();
  await page.screenshot({ path });
  await context.close();
}

const watchdog = setTimeout(() => { throw new Error("the browser test did not come to its end"); }, 4 * DEADLINE_MS);
let server = await Server.start("127.0.0.1:0");
const browser = await chromium.launch({ executablePath: browserPath, args: ["--headless", "--no-sandbox", "--disable-gpu"] });
server = await check(browser, server);
await server.end("SIGTERM");
server = await Server.start("127.0.0.1:0", "--publish-token", "open-sesame");
await checkToken(browser, server, "open-sesame");
await checkPhone(browser, server, "open-sesame");
await server.end("SIGTERM");
const path = process.env.WATERWHEEL_SCREENSHOT;
if (path) {
  // The address that a newcomer sees.
  server = await Server.start("127.0.0.1:8080");
  await photograph(browser, server, path);
  await server.end("SIGTERM");
}
await browser.close();
clearTimeout(watchdog);
