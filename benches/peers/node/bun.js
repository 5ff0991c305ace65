// Bun's server, which is built on uWebSockets: `bun bun.js PORT [--to sender|all]`.

const [port, , to] = process.argv.slice(2);
const toAll = to === "all";

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("a WebSocket, please", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: 64 * 1024 * 1024,
    // As far as it goes: otherwise it drops messages, and a measurement counts what arrives.
    backpressureLimit: 1024 * 1024 * 1024,
    closeOnBackpressureLimit: false,
    open(ws) {
      if (toAll) ws.subscribe("all");
    },
    message: toAll
      ? (_, message) => server.publish("all", message)
      : (ws, message) => ws.send(message),
  },
});
