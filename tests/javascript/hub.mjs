// A small hub for the tests of the browser client: docs/hub.md in few lines, with faults to order.

import { createHash } from "node:crypto";
import { createServer } from "node:http";

const matches = (name, topic) =>
  name === topic || (/[*?[\\]/.test(name) && new RegExp(`^${name.replaceAll(".", "\\.").replaceAll("*", ".*").replaceAll("?", ".")}$`).test(topic));
const PLACE = 4n * 10n ** 18n; // Above all that a number of JavaScript tells apart.
const number = cursor => {
  const [, number, place] = cursor.split(/[:-]/);
  return place === undefined ? Number(number) : Number(BigInt(place) - PLACE);
};

export class Hub {
  epoch = "a";
  last = 0;
  hasPlaces = false; // Three of four ids have a place behind the number before them, as those of a hub with Redis.
  history = []; // Messages, oldest first.
  forgotten = 0; // The highest number that is not in history any more.
  refused = new Set(); // Routes that are cut: "ws", "events", "poll", "publish".
  silent = false; // WebSockets get no answers.
  forbidden = new Set(); // Names that nobody may subscribe to.
  private = new Map(); // Names to the token that grants them.
  members = new Set();
  sockets = new Set();
  users = [];
  log = []; // What clients asked for: [kind, detail].

  static async start() {
    const hub = new Hub();
    hub.server = createServer((request, response) => hub.answer(request, response));
    hub.server.on("upgrade", (request, socket) => hub.upgrade(request, socket));
    hub.server.on("connection", socket => {
      hub.sockets.add(socket);
      socket.on("close", () => hub.sockets.delete(socket));
      socket.on("error", () => {});
    });
    await new Promise(resolve => hub.server.listen(0, "127.0.0.1", resolve));
    hub.url = `http://127.0.0.1:${hub.server.address().port}/`;
    return hub;
  }

  end() {
    this.cut();
    this.server.close();
  }

  cut() {
    for (const socket of this.sockets) socket.destroy();
    this.members.clear();
  }

  get cursor() {
    return this.id(this.last);
  }

  id(number) {
    const isPlace = this.hasPlaces && number % 4 !== 0;
    return `${this.epoch}:${isPlace ? `${number - (number % 4)}-${PLACE + BigInt(number)}` : number}`;
  }

  restart() {
    this.cut();
    [this.epoch, this.last, this.history] = [`${this.epoch}b`, 0, []];
  }

  publish(topic, data, more = {}) {
    const message = { topic, id: this.id(++this.last), ...more, data };
    this.history.push(message);
    for (const member of this.members) {
      const live = [...member.names].filter(name => matches(name, topic));
      if (live.length > 0) member.send(worded(message, live));
    }
    return message;
  }

  notice(message) {
    for (const member of this.members) if (member.names.has(message.topic)) member.send(message);
  }

  forget(count) {
    this.forgotten = number(this.history.splice(0, count).at(-1).id);
  }

  // The messages after a cursor, or `null` for a gap and all that there is.
  after(cursor, names) {
    const wanted = this.history.filter(message => names.some(name => matches(name, message.topic)));
    if (cursor === "earliest") return { messages: wanted };
    const [epoch] = cursor.split(":");
    const hasGap = epoch !== this.epoch || number(cursor) > this.last || number(cursor) < this.forgotten;
    return { hasGap, messages: hasGap ? wanted : wanted.filter(message => number(message.id) > number(cursor)) };
  }

  latest(names) {
    const values = new Map();
    for (const message of this.history) if (message.key && names.some(name => matches(name, message.topic))) values.set(message.key, message);
    // Not in the order of their ids.
    return [...values.values()].reverse();
  }

  refusal(names, token) {
    const name = names.find(name => this.forbidden.has(name) || (this.private.has(name) && this.private.get(name) !== token));
    return name === undefined ? null : { error: `${name} is not granted`, code: this.forbidden.has(name) ? "forbidden" : "unauthorized" };
  }

  // ---- HTTP.

  answer(request, response) {
    this.onRequest?.();
    const url = new URL(request.url, this.url);
    const path = url.pathname.slice(1);
    const query = name => url.searchParams.get(name);
    const token = request.headers.authorization?.replace("Bearer ", "");
    const names = url.searchParams.getAll("topic");
    this.log.push([path, Object.fromEntries(url.searchParams)]);
    if (this.refused.has(path)) return request.socket.destroy();
    const json = value => response.setHeader("Content-Type", "application/json").end(JSON.stringify(value));
    const refusal = this.refusal(names, token);
    if (refusal) return response.writeHead({ forbidden: 403, unauthorized: 401 }[refusal.code]).end(refusal.error);
    if (path === "publish") {
      let body = "";
      request.on("data", chunk => (body += chunk)).on("end", () => {
        json({ id: this.publish(names[0], JSON.parse(body), { event: query("event") ?? undefined, key: query("key") ?? undefined }).id, delivered: 1 });
      });
    } else if (path === "presence") json({ topic: names[0], present: this.users, anonymous: 0 });
    else if (path === "events") this.stream(names, query("since"), request, response);
    else if (path === "poll") this.poll(names, query, request, json);
    else response.writeHead(404).end();
  }

  stream(names, since, request, response) {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const send = message => response.write(`id: ${message.id ?? this.cursor}\ndata: ${JSON.stringify(message)}\n\n`);
    const { hasGap, messages } = since ? this.after(since, names) : { messages: [] };
    response.write(`id: ${since ?? this.cursor}\n\n`);
    if (hasGap) for (const name of names) response.write(`id: ${this.cursor}\nevent: gap\ndata: ${name}\n\n`);
    for (const message of messages) send(worded(message, names.filter(name => matches(name, message.topic))));
    const member = { names: new Set(names), send };
    this.members.add(member);
    const heartbeat = setInterval(() => response.write(`id: ${this.cursor}\n\n`), 200);
    request.socket.on("close", () => [clearInterval(heartbeat), this.members.delete(member)]);
  }

  poll(names, query, request, json) {
    const since = query("since");
    if (!since) return json({ cursor: this.cursor, messages: query("latest") ? this.latest(names) : [] });
    const answer = () => {
      const { hasGap, messages } = this.after(since, names);
      const page = messages.slice(0, 10).map(message => worded(message, names.filter(name => matches(name, message.topic))));
      const cursor = messages.length > 10 ? page.at(-1).id : this.cursor;
      json({ cursor, messages: page, ...(hasGap && { gap: names }) });
    };
    const { hasGap, messages } = this.after(since, names);
    if (messages.length > 0 || hasGap || query("wait") === "0") return answer();
    const done = () => {
      clearTimeout(timer);
      if (this.members.delete(member)) answer();
    };
    const member = { names: new Set(names), send: () => queueMicrotask(done) };
    const timer = setTimeout(done, Number(query("wait") ?? 25) * 1000);
    this.members.add(member);
    request.socket.on("close", () => [clearTimeout(timer), this.members.delete(member)]);
  }

  // ---- WebSocket.

  upgrade(request, socket) {
    this.log.push(["ws", {}]);
    if (this.refused.has("ws")) return socket.destroy();
    const accept = createHash("sha1").update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: waterwheel.v1.json\r\n\r\n`);
    const member = { names: new Set(), send: message => this.silent || socket.write(frame(JSON.stringify(message))) };
    this.members.add(member);
    socket.on("close", () => this.members.delete(member));
    let rest = Buffer.alloc(0);
    socket.on("data", bytes => {
      rest = Buffer.concat([rest, bytes]);
      for (let parsed; (parsed = unframe(rest)); rest = parsed.rest) {
        if (parsed.opcode === 8) return socket.end(Buffer.from([0x88, 0]));
        if (parsed.opcode === 1) this.command(member, JSON.parse(parsed.text));
      }
    });
  }

  command(member, command) {
    const { ref, subscribe, since, latest, unsubscribe, publish, auth, presence } = command;
    this.log.push(["command", command]);
    const answer = message => member.send({ ...message, ...(ref !== undefined && { ref }) });
    if (auth !== undefined) {
      member.token = auth;
      return answer({ authorized: {} });
    }
    if (unsubscribe !== undefined) {
      member.names.delete(unsubscribe);
      return answer({ unsubscribed: unsubscribe });
    }
    if (publish !== undefined) {
      const refusal = this.refusal([publish], member.token);
      return answer(refusal ?? { published: publish, id: this.publish(publish, command.data, { event: command.event, key: command.key }).id });
    }
    if (presence) return answer({ topic: presence, present: this.users, anonymous: 0 });
    if (subscribe === undefined) return answer({ error: "expected a command", code: "bad" });
    const names = [subscribe].flat();
    const refusal = this.refusal(names, member.token);
    if (refusal) return answer(refusal);
    // A replay is sent piece by piece, and other subscriptions are live in between. A live name waits behind its replay.
    if (since || latest) for (const name of names) member.names.delete(name);
    let place = since;
    const step = () => {
      if (!this.members.has(member)) return;
      const { hasGap, messages } = place ? this.after(place, names) : { messages: [] };
      if (hasGap) for (const name of names) member.send({ gap: name, cursor: this.id(this.forgotten) });
      for (const message of messages.slice(0, 5)) member.send(worded(message, names.filter(name => matches(name, message.topic))));
      if (messages.length > 5) {
        place = messages[4].id;
        return setTimeout(step, 1);
      }
      if (latest && !since) for (const message of this.latest(names)) member.send(message);
      for (const name of names) member.names.add(name);
      answer({ subscribed: subscribe, cursor: this.cursor });
    };
    step();
  }
}

// `by` stands in messages that came by a pattern only.
function worded(message, names) {
  return names.includes(message.topic) ? message : { ...message, by: names[0] };
}

function frame(text) {
  const bytes = Buffer.from(text);
  const head = bytes.length < 126 ? [0x81, bytes.length] : [0x81, 126, bytes.length >> 8, bytes.length & 255];
  return Buffer.concat([Buffer.from(head), bytes]);
}

// The first frame of a client, whose frames are masked.
function unframe(bytes) {
  if (bytes.length < 6) return null;
  let [length, at] = [bytes[1] & 127, 2];
  if (length === 126) [length, at] = [bytes.readUInt16BE(2), 4];
  if (bytes.length < at + 4 + length) return null;
  const body = bytes.subarray(at + 4, at + 4 + length).map((byte, index) => byte ^ bytes[at + (index & 3)]);
  return { opcode: bytes[0] & 15, text: body.toString(), rest: bytes.subarray(at + 4 + length) };
}
