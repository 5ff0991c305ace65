// The `ws` package on Node.js: `node ws.js PORT [--to sender|all]`.

import { WebSocketServer } from "ws";

const [port, , to] = process.argv.slice(2);
const toAll = to === "all";

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(port),
  backlog: 4096,
  perMessageDeflate: false,
  maxPayload: 64 * 1024 * 1024,
  clientTracking: toAll,
});

server.on("connection", (socket) => {
  socket.on("error", () => socket.terminate());
  socket.on("message", (message, binary) => {
    if (!toAll) return socket.send(message, { binary });
    for (const client of server.clients) {
      if (client.readyState === client.OPEN) client.send(message, { binary });
    }
  });
});
