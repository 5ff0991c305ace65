// Every combination of the options of npm's `ws` against an echo server: `node ws.mjs URL`, with the file of an
// authority for wss://; or an echo server of `ws`: `node ws.mjs --serve [CERTIFICATE KEY]`, which prints its port. There
// the options stand in the URL, as JSON behind the question mark, and null is as if an option was not given.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { createRequire } from "node:module";

// It is installed beside the driver of the browser.
const require = createRequire(new URL("../browser/package.json", import.meta.url));
const { WebSocket, WebSocketServer } = require("ws");

const text = length => {
  let lines = "";
  for (let line = 0; lines.length < length; line++) lines += JSON.stringify({ line, on: true }) + "\n";
  return lines.slice(0, length);
};

const noise = length => {
  const bytes = Buffer.alloc(length);
  let state = 1;
  for (let index = 0; index < length; index++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    bytes[index] = state >>> 24;
  }
  return bytes;
};

// The noise is repeated after 3000 bytes, in one message and from one to the next: outside of a small window, and of
// every window where the context is not taken over.
const MESSAGES = ["", "a", text(100), text(1024), text(5000), text(70000), text(70000), noise(3000), noise(3000),
  Buffer.concat(Array(10).fill(noise(3000))), noise(100000)];

// The fault of the parameters that a server has agreed to, given those that were asked for; RFC 7692, section 7.1.
const wrongAgreement = (header, asked) => {
  const parameters = new Map(header.split(";").slice(1).map(parameter => parameter.trim().split("=")));
  const known = ["server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits", "client_max_window_bits"];
  const bits = name => Number(parameters.get(name));
  if ([...parameters.keys()].some(name => !known.includes(name))) return "an unknown parameter";
  if (asked.serverNoContextTakeover && !parameters.has(known[0])) return "the server takes its context over";
  if (asked.serverMaxWindowBits && !(bits(known[2]) <= asked.serverMaxWindowBits)) return "the server's window is too large";
  if (parameters.has(known[3]) && asked.clientMaxWindowBits === undefined) return "the client was not asked for its window";
  return undefined;
};

// Sends each message when the one before has come back. Returns whether the messages were compressed.
const echoes = (url, ca, perMessageDeflate) =>
  new Promise((resolve, reject) => {
    const what = JSON.stringify(perMessageDeflate);
    const socket = new WebSocket(url, { perMessageDeflate, ca });
    let count = 0;
    let header;
    socket.on("error", error => reject(new Error(`${what}: ${error}`)));
    socket.on("upgrade", response => {
      header = response.headers["sec-websocket-extensions"];
      const wrong = header && wrongAgreement(header, perMessageDeflate);
      if (wrong) reject(new Error(`${what}: ${wrong}: ${header}`));
    });
    socket.on("open", () => socket.send(MESSAGES[0]));
    socket.on("message", (bytes, isBinary) => {
      const sent = MESSAGES[count];
      if (isBinary === (typeof sent === "string") || !bytes.equals(Buffer.from(sent))) {
        return reject(new Error(`${what}: message ${count} came back changed`));
      }
      count += 1;
      if (count === MESSAGES.length) socket.close();
      else socket.send(MESSAGES[count]);
    });
    socket.on("close", code => {
      if (count === MESSAGES.length) resolve(header !== undefined);
      else reject(new Error(`${what}: closed with ${code} after ${count} messages`));
    });
  });

const askAll = async (url, authority) => {
  const ca = authority && readFileSync(authority);
  let agreed = 0;
  let asked = 0;
  for (const serverNoContextTakeover of [undefined, true])
    for (const clientNoContextTakeover of [undefined, true])
      for (const serverMaxWindowBits of [undefined, 8, 9, 10, 15])
        for (const clientMaxWindowBits of [undefined, true, 8, 9, 12, 15]) {
          const isCompressed = await echoes(url, ca, {
            serverNoContextTakeover,
            clientNoContextTakeover,
            serverMaxWindowBits,
            clientMaxWindowBits,
            threshold: 0,
          });
          asked += 1;
          agreed += isCompressed ? 1 : 0;
        }
  // A window of 8 bits is declined, and the connection is opened without compression.
  console.log(`${agreed} of ${asked}`);
};

// The first message is what was agreed to. Those after it come back.
const serve = pair => {
  const [cert, key] = pair.map(path => readFileSync(path));
  const server = key ? createTlsServer({ cert, key }) : createServer();
  server.on("upgrade", (request, stream, head) => {
    const perMessageDeflate = JSON.parse(decodeURIComponent(request.url.split("?")[1]), (_, value) => value ?? undefined);
    const endpoint = new WebSocketServer({ noServer: true, perMessageDeflate });
    let agreed = "";
    endpoint.on("headers", headers => {
      agreed = headers.find(header => header.startsWith("Sec-WebSocket-Extensions: "))?.split(": ")[1] ?? "";
    });
    endpoint.handleUpgrade(request, stream, head, socket => {
      socket.send(agreed);
      socket.on("message", (bytes, isBinary) => socket.send(bytes, { binary: isBinary }));
      // The client reports why.
      socket.on("error", () => {});
    });
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
};

const [first, ...others] = process.argv.slice(2);
if (first === "--serve") serve(others);
else await askAll(first, others[0]);
