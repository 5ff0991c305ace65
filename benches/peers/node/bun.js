// Bun's server, which is built on uWebSockets:
// `bun bun.js PORT [--to sender|all] [--tls CERTIFICATE KEY] [--deflate]`.

const [port, ...words] = process.argv.slice(2);
const after = (option) => words.slice(words.indexOf(option) + 1);
const toAll = words.includes("--to") && after("--to")[0] === "all";
const [certificate, key] = words.includes("--tls") ? after("--tls") : [];
const deflate = words.includes("--deflate");

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(port),
  tls: certificate && { cert: Bun.file(certificate), key: Bun.file(key) },
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response("a WebSocket, please", { status: 426 });
  },
  websocket: {
    perMessageDeflate: deflate && { compress: "shared", decompress: "shared" },
    maxPayloadLength: 64 * 1024 * 1024,
    // As far as it goes: otherwise it drops messages, and a measurement counts what arrives.
    backpressureLimit: 1024 * 1024 * 1024,
    closeOnBackpressureLimit: false,
    open(ws) {
      if (toAll) ws.subscribe("all");
    },
    message: toAll
      ? (_, message) => server.publish("all", message)
      : (ws, message) => ws.send(message, deflate),
  },
});
