// A small hub for the tests of the browser client: docs/hub.md in few lines, with faults to order.

import { createHash } from "node:crypto";
import { createServer } from "node:http";

const matches = (name, topic) =>
  name === topic || (/[*?[\\]/.test(name) && new RegExp(`^${name.replaceAll(".", "\\.").replaceAll("*", ".*").replaceAll("?", ".")}$`).test(topic));

// The bucket of a topic in a Redis Cluster: CRC-16 (XMODEM) of the topic, or of what is in its first braces.
export function bucketOf(topic) {
  const [begin, end] = [topic.indexOf("{"), topic.indexOf("}", topic.indexOf("{"))];
  const tag = begin >= 0 && end > begin + 1 ? topic.slice(begin + 1, end) : topic;
  let crc = 0;
  for (const byte of Buffer.from(tag)) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
  }
  return crc % 16;
}

const PLACE = 4n * 10n ** 18n; // Above all that a number of JavaScript tells apart.

export class Hub {
  epoch = "a";
  last = 0;
  buckets = null; // The newest number of each, as in a Redis Cluster.
  base = PLACE; // The places of this node. Another node has others.
  hasPlaces = false; // Three of four ids have a place behind the number before them, as those of a hub with Redis.
  history = []; // Messages, oldest first.
  numbers = new Map(); // Of each message by its index from one on: its bucket, and its number there.
  forgotten = 0; // The highest number that is not in history any more.
  refused = new Set(); // Routes that are cut: "ws", "events", "poll", "publish".
  silent = false; // WebSockets get no answers.
  isHeld = null; // Which commands and requests wait until `release`, by their command or path.
  held = [];
  forbidden = new Set(); // Names that nobody may subscribe to.
  private = new Map(); // Names to the token that grants them.
  members = new Set();
  sockets = new Set();
  streams = new Set(); // The answers of event streams.
  badTokens = new Set();
  users = [];
  presences = new Set(); // Topics with presence.
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

  number(cursor) {
    const [, number, place] = cursor.split(/[:-]/);
    return place === undefined ? Number(number) : Number(BigInt(place) - this.base);
  }

  get cursor() {
    if (!this.buckets) return this.id(this.last);
    return `${this.epoch}:${this.buckets.join(".")}~${this.base + BigInt(this.last)}`;
  }

  id(number) {
    const isPlace = this.hasPlaces && number % 4 !== 0;
    return `${this.epoch}:${isPlace ? `${number - (number % 4)}-${this.base + BigInt(number)}` : number}`;
  }

  restart() {
    this.cut();
    [this.epoch, this.last, this.history] = [`${this.epoch}b`, 0, []];
  }

  publish(topic, data, more = {}) {
    this.last++;
    const bucket = bucketOf(topic);
    if (this.buckets) this.numbers.set(this.last, [bucket, ++this.buckets[bucket]]);
    const message = { topic, id: this.buckets ? this.cursor : this.id(this.last), ...more, data };
    this.history.push(message);
    for (const member of this.members) {
      const live = [...member.names].filter(name => matches(name, topic));
      if (live.length > 0) member.send(worded(message, live));
    }
    return message;
  }

  release() {
    this.isHeld = null;
    for (const run of this.held.splice(0)) run();
  }

  // A user of a topic with presence has come.
  join(topic, user) {
    this.users = [...this.users, { user }];
    this.notice({ topic, joined: { user } });
  }

  // Ends the subscription of every member to a name.
  unsubscribe(name, reason) {
    for (const member of this.members) {
      member.end(name);
      member.send({ unsubscribed: name, reason });
    }
  }

  // Ends all event streams, and asks their clients to stay away for a while.
  endStreams(retryMs) {
    for (const response of this.streams) response.end(`retry: ${retryMs}\n\n`);
  }

  names() {
    return [...this.members].flatMap(member => [...member.names]);
  }

  notice(message) {
    for (const member of this.members) if (member.names.has(message.topic)) member.send(message);
  }

  forget(count) {
    this.forgotten = this.number(this.history.splice(0, count).at(-1).id);
  }

  // The same in a cluster, one bucket after the other. The ids have the newest numbers of buckets without a wanted topic.
  afterInBuckets(cursor, names) {
    const [epoch, text = ""] = cursor.replace(/~.*/, "").split(":");
    const hasGap = epoch !== this.epoch && cursor !== "earliest";
    const numbers = epoch === this.epoch ? text.split(".").map(Number) : this.buckets.map(() => 0);
    const isWanted = bucket => names.some(name => /[*?[\\]/.test(name) || bucketOf(name) === bucket);
    const messages = [];
    for (const bucket of numbers.keys()) if (!isWanted(bucket)) numbers[bucket] = this.buckets[bucket];
    for (const bucket of numbers.keys()) {
      for (const [index, message] of this.history.entries()) {
        const [own, number] = this.numbers.get(index + 1);
        if (own !== bucket || number <= numbers[bucket] || !names.some(name => matches(name, message.topic))) continue;
        numbers[bucket] = number;
        messages.push({ ...message, id: `${this.epoch}:${numbers.join(".")}` });
      }
      numbers[bucket] = this.buckets[bucket];
    }
    return { hasGap, messages };
  }

  // The messages after a cursor, or `null` for a gap and all that there is.
  after(cursor, names) {
    if (this.buckets) return this.afterInBuckets(cursor, names);
    const wanted = this.history.filter(message => names.some(name => matches(name, message.topic)));
    if (cursor === "earliest") return { messages: wanted };
    const [epoch] = cursor.split(":");
    const after = this.number(cursor);
    // A place of another node: what it heard behind the number before is not known.
    if (epoch === this.epoch && Math.abs(after) >= 2 ** 32) return { hasGap: true, gap: cursor.split("-")[0], messages: [] };
    const hasGap = epoch !== this.epoch || after > this.last || after < this.forgotten;
    return { hasGap, messages: hasGap ? wanted : wanted.filter(message => this.number(message.id) > after) };
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
    if (this.isHeld?.(path)) {
      this.log.push([path, "held"]);
      const users = this.users;
      return this.held.push(() => response.setHeader("Content-Type", "application/json").end(JSON.stringify({ topic: url.searchParams.get("topic"), present: users, anonymous: 0 })));
    }
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
    const presence = name => JSON.stringify({ topic: name, present: this.users, anonymous: 0 });
    for (const name of names) if (this.presences.has(name)) response.write(`data: ${presence(name)}\n\n`);
    if (hasGap) for (const name of names) response.write(`id: ${this.cursor}\nevent: gap\ndata: ${name}\n\n`);
    for (const message of messages) send(worded(message, names.filter(name => matches(name, message.topic))));
    const member = { names: new Set(names), send };
    this.members.add(member);
    this.streams.add(response);
    const heartbeat = setInterval(() => response.write(`id: ${this.cursor}\n\n`), 200);
    request.socket.on("close", () => [clearInterval(heartbeat), this.members.delete(member), this.streams.delete(response)]);
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
    const member = { names: new Set(), pending: new Set(), send: message => this.silent || socket.write(frame(JSON.stringify(message))) };
    member.end = name => {
      let wasThere = member.names.delete(name);
      for (const names of member.pending) wasThere = names.delete(name) || wasThere;
      return wasThere;
    };
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
    if (this.isHeld?.(Object.keys(command)[0], command)) {
      this.log.push(["held", command]);
      return this.held.push(() => this.command(member, command));
    }
    this.log.push(["command", command]);
    const answer = message => member.send({ ...message, ...(ref !== undefined && { ref }) });
    if (auth !== undefined) {
      if (this.badTokens.has(auth)) return answer({ error: "a bad token", code: "unauthorized" });
      member.token = auth;
      return answer({ authorized: {} });
    }
    if (unsubscribe !== undefined) {
      return answer(member.end(unsubscribe) ? { unsubscribed: unsubscribe } : { error: `${unsubscribe} is not subscribed`, code: "bad" });
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
    // A replay is sent piece by piece behind the one before it, and other subscriptions are live in between. A live name
    // waits behind its replay. A name that ends in between is left out of the answer.
    if (since || latest) for (const name of names) member.names.delete(name);
    const pending = new Set(names);
    member.pending.add(pending);
    let place = since;
    const step = () => {
      if (!this.members.has(member)) return;
      if ([...member.pending][0] !== pending) return setTimeout(step, 1);
      const names = [...pending];
      const { hasGap, gap = this.id(this.forgotten), messages } = place ? this.after(place, names) : { messages: [] };
      if (hasGap) for (const name of names) member.send({ gap: name, cursor: gap });
      for (const message of messages.slice(0, 5)) member.send(worded(message, names.filter(name => matches(name, message.topic))));
      if (messages.length > 5) {
        place = messages[4].id;
        return setTimeout(step, 1);
      }
      if (latest && !since) for (const message of this.latest(names)) member.send(message);
      member.pending.delete(pending);
      for (const name of names) member.names.add(name);
      answer({ subscribed: names.includes(subscribe) ? subscribe : names, cursor: this.cursor });
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
