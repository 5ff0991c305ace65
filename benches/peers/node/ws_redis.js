// The `ws` package with the `redis` package on Node.js: `REDIS_URL=.. node ws_redis.js PORT CHANNEL`.
// What is published to the channel goes to all clients.

import { createClient } from "redis";
import { WebSocket, WebSocketServer } from "ws";

const [port, channel] = process.argv.slice(2);

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(port),
  backlog: 4096,
  perMessageDeflate: false,
});
server.on("connection", (socket) => socket.on("error", () => socket.terminate()));

const redis = await createClient({ url: process.env.REDIS_URL }).on("error", console.error).connect();
await redis.subscribe(channel, (message) => {
  for (const client of server.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(message);
  }
});
