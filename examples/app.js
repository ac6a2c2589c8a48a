// A web server for `examples/node_worker.py`: what it counts stays in its process.
const http = require("node:http");

const counts = new Map();
const server = http.createServer((request, response) => {
  busy.add(request.socket);
  response.on("close", () => busy.delete(request.socket));
  const name = request.headers["x-session"] ?? "";
  counts.set(name, (counts.get(name) ?? 0) + 1);
  if (draining) response.setHeader("connection", "close");
  response.end(`Hello from Node ${process.pid}: ${name} ${counts.get(name)}\n`);
});

// What every application behind node_worker.py does.
const open = new Set();
const busy = new Set();
let draining = false;

function leave(cut) {
  process.send({ drained: cut }, () => process.exit());
}

process.on("message", (message, socket) => {
  if (message.drain !== undefined) {
    draining = true;
    setTimeout(() => leave(open.size), 1000 * message.drain);
    for (const each of open) if (!busy.has(each)) each.end();
    if (!open.size) leave(0);
    return;
  }
  open.add(socket);
  socket.on("close", () => {
    open.delete(socket);
    process.send({ closed: message.id });
    if (draining && !open.size) leave(0);
  });
  if (message.consumed) socket.unshift(Buffer.from(message.consumed, "base64"));
  server.emit("connection", socket);
});
process.on("disconnect", () => process.exit());
process.send({ ready: true });
