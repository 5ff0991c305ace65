// The demo page of a hub: a chat, live topics, and how a break looks from inside a page.

import { Waterwheel } from "./waterwheel.js";

const LINES_MAX = 500;
const ERRORS_MAX = 3;
const BREAK_MS = 5000;
const element = id => document.getElementById(id);
// Relative to the page, so that a proxy may serve the hub below any path.
const address = path => new URL(path, location.origin + location.pathname);

// The topics and patterns that this page wants to hear: { name, row, since, end }. `since` is the cursor of the last message.
const topics = [];
let hub;
let token = "";
let count = 0;
let state = { state: "idle" };
let lastMessage;
// While the page is away: since when, and the messages that have come again.
let away;
let lastGapAt = -1;

// ---- The lines that are shown. Only textContent, so that the words of strangers stay text.

function node(tag, text, className = "", title = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  if (title !== "") made.title = title;
  return made;
}

// A list that shows the newest LINES_MAX lines, put in once a frame however many arrive. A hidden page gets no frames,
// so the lines that wait are bounded too.
function logTo(list) {
  const waiting = [];
  const show = () => {
    const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
    list.append(...waiting.splice(0).map(parts => {
      const line = document.createElement("li");
      line.append(...parts.map(part => node("span", ...part)));
      return line;
    }));
    while (LINES_MAX < list.childElementCount) list.firstElementChild.remove();
    if (follows) list.scrollTop = list.scrollHeight;
  };
  return (...parts) => {
    if (waiting.push(parts) === 1) requestAnimationFrame(show);
    if (LINES_MAX < waiting.length) waiting.shift();
  };
}
const chatLine = logTo(element("chat-log"));
const liveLine = logTo(element("live-log"));

const asText = data => (typeof data === "string" ? data : JSON.stringify(data));
const plural = (number, thing) => `${number} ${thing}${number === 1 ? "" : "s"}`;

// The newest few, so that a second refusal does not hide the first.
function showError(text) {
  const list = element("error-text");
  if (element("error").hidden) list.replaceChildren();
  if (list.lastElementChild?.textContent !== text) list.append(node("div", text));
  while (ERRORS_MAX < list.childElementCount) list.firstElementChild.remove();
  element("error").hidden = false;
  // The only refusal that the reader can mend here.
  if (/token/i.test(text)) element("token-form").hidden = false;
  showCurl();
}

function showCurl() {
  const header = token || !element("token-form").hidden ? ' -H "Authorization: Bearer $WATERWHEEL_PUBLISH_TOKEN"' : "";
  const quoted = path => `'${String(address(path)).replaceAll("'", "%27")}'`;
  element("curl").value = `curl -d hello${header} ${quoted("publish?topic=chat")}`;
  element("curl-events").value = `curl -N ${quoted("events?topic=chat")}`;
}

// ---- The state of the link.

function showState(next) {
  const was = state.state;
  state = next;
  const output = element("state");
  output.textContent = { websocket: "WebSocket", "event stream": "Event stream", "long poll": "Long poll" }[next.transport] ?? next.state;
  output.dataset.state = next.state;
  element("chat-send").disabled = next.state !== "connected";
  if (next.state !== "connected") {
    for (const { row } of topics) if (row.dataset.state === "subscribed") row.dataset.state = "pending";
    if (was === "connected") away ??= { at: performance.now(), count: 0 };
    return;
  }
  if (!away) return;
  const seconds = Math.ceil((performance.now() - away.at) / 1000);
  const text = `back after ${seconds} s: ${plural(away.count, "message")} came again`;
  const line = [`${text}${away.at <= lastGapAt ? "" : ", none is missing"}`, "note"];
  away = undefined;
  chatLine(line);
  liveLine(line);
}

// ---- The messages that arrive.

// The mark of a message that was published while the page was away.
const again = () => (away ? [["again", "again", "published while this page was away"]] : []);

function received(topic, data, message) {
  topic.since = message.id;
  if (topic.name === "chat") receivedChat(data);
  // By a name and by a pattern it comes twice, as the same object.
  if (message === lastMessage) return;
  lastMessage = message;
  element("count").textContent = plural(++count, "message");
  if (away) away.count++;
  const event = "event" in message ? [[message.event, "event", "name of the event"]] : [];
  // The number is enough to tell two messages apart, in a cluster the sum of those of all buckets; the whole id is the cursor.
  const sum = numbers => numbers.split(".").reduce((sum, number) => sum + Number(number), 0);
  const number = message.id.slice(message.id.lastIndexOf(":") + 1).replace(/[\d.]+/, sum);
  liveLine([message.topic, "topic"], ...event, [asText(data), "data"], ...again(), [`#${number}`, "when", message.id]);
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

function receivedChat(data) {
  // This page sends {"nick", "text"}; curl posts a string; another program may publish any JSON.
  const isOfPage = data !== null && typeof data === "object" && typeof data.text === "string";
  const nick = isOfPage && typeof data.nick === "string" ? data.nick : "";
  const author = nick === "" ? ["anonymous", "nick quiet"] : [nick, "nick"];
  chatLine(author, [isOfPage ? data.text : asText(data), "data"], ...again(), [clock.format(), "when"]);
}

function missed(topic, name, message) {
  topic.since = message.cursor ?? topic.since;
  lastGapAt = performance.now();
  liveLine([name, "topic"], ["messages may be missing here", "gap"]);
  if (topic.name === "chat") chatLine(["messages may be missing here", "gap"]);
}

// ---- The hub.

// The WebSocket that the client gets: one that the reader can break. The client itself does the rest.
const sockets = new Set();
let brokenUntil = 0;
let isRefused = false;

class BreakableSocket {
  constructor(...words) {
    sockets.add(this);
    if (isRefused) setTimeout(() => this.close());
    else setTimeout(() => this.open(words), brokenUntil - performance.now());
  }

  open(words) {
    if (!sockets.has(this)) return;
    this.socket = new WebSocket(...words);
    this.socket.onopen = event => this.onopen?.(event);
    this.socket.onmessage = event => this.onmessage?.(event);
    this.socket.onerror = event => this.onerror?.(event);
    this.socket.onclose = () => this.close();
  }

  get readyState() {
    return this.socket?.readyState ?? WebSocket.CONNECTING;
  }

  send(text) {
    this.socket.send(text);
  }

  close() {
    if (!sockets.delete(this)) return;
    this.socket?.close();
    this.onclose?.();
  }
}

function subscribe(topic) {
  topic.row.dataset.state = "pending";
  topic.end = hub.subscribe(topic.name, (data, message) => received(topic, data, message), {
    since: topic.since,
    onSubscribed: cursor => {
      topic.since = cursor;
      topic.row.dataset.state = "subscribed";
    },
    onGap: (name, message) => missed(topic, name, message),
    onError: error => {
      topic.row.dataset.state = "refused";
      showError(`The hub refused ${topic.name}: ${error.message}`);
    },
  });
}

// Makes the link anew, and resumes each topic behind its last message.
function connect() {
  hub?.close();
  state = { state: "idle" };
  away = undefined;
  const made = new Waterwheel(undefined, {
    WebSocket: BreakableSocket,
    token: token || undefined,
    onError: error => showError(error.message),
  });
  hub = made;
  // The link before this one may still say that it ends.
  made.onState(next => { if (made === hub) showState(next); });
  for (const topic of topics) subscribe(topic);
}

function addTopic(name) {
  if (topics.some(topic => topic.name === name)) return;
  const row = document.createElement("li");
  row.dataset.topic = name;
  const topic = { name, row };
  const remove = node("button", "×");
  remove.type = "button";
  remove.setAttribute("aria-label", `Remove ${name}`);
  remove.addEventListener("click", () => {
    topics.splice(topics.indexOf(topic), 1);
    row.remove();
    topic.end();
  });
  row.append(node("span", name), remove);
  element("topics").append(row);
  topics.push(topic);
  if (hub) subscribe(topic);
}

// ---- The wishes of the reader.

element("topic-form").addEventListener("submit", event => {
  event.preventDefault();
  const name = element("topic-name").value.trim();
  if (name === "") return;
  addTopic(name);
  element("topic-name").value = "";
});

element("chat-form").addEventListener("submit", async event => {
  event.preventDefault();
  const field = element("chat-text");
  const text = field.value;
  const nick = element("chat-nick").value.trim();
  if (text === "") return;
  field.value = "";
  try {
    // It appears when it comes back, as for everybody else.
    await hub.publish("chat", { nick, text });
  } catch (error) {
    // A message that was not sent is in its field again.
    if (field.value === "") field.value = text;
    showError(`The message was not published: ${error.message}`);
  }
});

element("token-form").addEventListener("submit", event => {
  event.preventDefault();
  token = element("token").value;
  element("token").value = "";
  element("error").hidden = true;
  element("token-form").hidden = true;
  connect();
  showCurl();
});

element("break").addEventListener("click", () => {
  brokenUntil = performance.now() + BREAK_MS;
  for (const socket of [...sockets]) socket.close();
});

element("transport").addEventListener("change", () => {
  isRefused = element("transport").value === "plain";
  element("break").disabled = isRefused;
  if (isRefused) for (const socket of [...sockets]) socket.close();
});

element("error-close").addEventListener("click", () => { element("error").hidden = true; });

for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    const line = element(button.dataset.copies);
    line.select();
    // Without a secure context there is no clipboard; the line is selected then.
    try { await navigator.clipboard.writeText(line.value); } catch { return; }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

if (document.documentElement.dataset.publishing === "token") element("token-form").hidden = false;
element("chat-nick").value = `guest-${Math.floor(1000 + 9000 * Math.random())}`;
showCurl();
addTopic("chat");
connect();
