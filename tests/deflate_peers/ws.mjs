// Every combination of the options of npm's `ws` against an echo server: `node ws.mjs URL`; or an echo server of
// `ws` with one set of them: `node ws.mjs --serve OPTIONS`, which prints its port.

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

const MESSAGES = ["", "a", text(100), text(1024), text(5000), text(70000), text(70000), noise(3000), noise(100000)];

// Sends each message when the one before has come back.
const echoes = (url, perMessageDeflate) =>
  new Promise((resolve, reject) => {
    const what = JSON.stringify(perMessageDeflate);
    const socket = new WebSocket(url, { perMessageDeflate });
    let count = 0;
    socket.on("error", error => reject(new Error(`${what}: ${error}`)));
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
      if (count === MESSAGES.length) resolve(socket.extensions);
      else reject(new Error(`${what}: closed with ${code} after ${count} messages`));
    });
  });

const askAll = async url => {
  let agreed = 0;
  let asked = 0;
  for (const serverNoContextTakeover of [undefined, true])
    for (const clientNoContextTakeover of [undefined, true])
      for (const serverMaxWindowBits of [undefined, 8, 9, 10, 15])
        for (const clientMaxWindowBits of [undefined, true, 9, 12, 15]) {
          const extensions = await echoes(url, {
            serverNoContextTakeover,
            clientNoContextTakeover,
            serverMaxWindowBits,
            clientMaxWindowBits,
            threshold: 0,
          });
          asked += 1;
          agreed += extensions.includes("permessage-deflate") ? 1 : 0;
        }
  // A window of 8 bits is declined, and the connection is opened without compression.
  console.log(`${agreed} of ${asked}`);
};

const serve = options => {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: JSON.parse(options) });
  server.on("connection", socket => {
    socket.on("message", (bytes, isBinary) => socket.send(bytes, { binary: isBinary }));
  });
  server.on("listening", () => console.log(server.address().port));
};

const [first, second] = process.argv.slice(2);
if (first === "--serve") serve(second);
else await askAll(first);
