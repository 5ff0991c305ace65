// The `ws` package on Node.js:
// `node ws.js PORT [--to sender|all] [--tls CERTIFICATE KEY] [--deflate]`.

import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { WebSocketServer } from "ws";

const [port, ...words] = process.argv.slice(2);
const after = (option) => words.slice(words.indexOf(option) + 1);
const toAll = words.includes("--to") && after("--to")[0] === "all";
const [certificate, key] = words.includes("--tls") ? after("--tls") : [];
// As a server that cares for memory has it: no window is kept between messages.
const deflate = words.includes("--deflate") && {
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
};

const address = { host: "127.0.0.1", port: Number(port), backlog: 4096 };
const options = {
  perMessageDeflate: deflate,
  maxPayload: 64 * 1024 * 1024,
  clientTracking: toAll,
};
const secured = certificate && createServer({ cert: readFileSync(certificate), key: readFileSync(key) });
const server = new WebSocketServer(secured ? { server: secured, ...options } : { ...address, ...options });
if (secured) secured.listen(address);

server.on("connection", (socket) => {
  socket.on("error", () => socket.terminate());
  socket.on("message", (message, binary) => {
    if (!toAll) return socket.send(message, { binary });
    for (const client of server.clients) {
      if (client.readyState === client.OPEN) client.send(message, { binary });
    }
  });
});
