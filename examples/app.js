// A web server for `examples/node_worker.py`: what it counts stays in its process.
const http = require("node:http");

const counts = new Map();
const server = http.createServer((request, response) => {
  idle.delete(request.socket);
  response.on("close", () => rest(request.socket));
  const name = request.headers["x-session"] ?? "";
  counts.set(name, (counts.get(name) ?? 0) + 1);
  if (draining) response.setHeader("connection", "close");
  response.end(`Hello from Node ${process.pid}: ${name} ${counts.get(name)}\n`);
});

// What every application behind node_worker.py does.
const open = new Set();
// Those that wait for their next request; one that was just handed over asks its first.
const idle = new Set();
let draining = false;

function rest(socket) {
  if (draining) socket.end();
  else if (open.has(socket)) idle.add(socket);
}

function leave(cut) {
  process.send({ drained: cut }, () => process.exit());
}

process.on("message", (message, socket) => {
  if (message.drain !== undefined) {
    draining = true;
    setTimeout(() => leave(open.size), 1000 * message.drain);
    for (const each of idle) each.end();
    if (!open.size) leave(0);
    return;
  }
  open.add(socket);
  socket.on("close", () => {
    open.delete(socket);
    idle.delete(socket);
    process.send({ closed: message.id });
    if (draining && !open.size) leave(0);
  });
  if (message.consumed) socket.unshift(Buffer.from(message.consumed, "base64"));
  // What a server that listens would have done itself, and on "listening" does.
  socket.setNoDelay(true);
  server.emit("connection", socket);
});
process.on("disconnect", () => process.exit());
server.emit("listening");
process.send({ ready: true });
