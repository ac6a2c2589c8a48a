/*
 * Node's cluster behind the sticky dispatcher of Socket.IO, serving what ../app.py serves:
 *
 *   node app.js PORT WORKERS
 *
 * @socket.io/sticky is used as it is: the primary accepts, reads the first data, and sends
 * the socket to the worker that has announced the session. It finds the session by
 * "sid=" and 20 characters in the head, and learns its worker from Engine.IO's event
 * "connection"; we emit that event when a worker sees a session for the first time. It
 * answers every request with "Connection: close", for the next may be of another session.
 */
"use strict";
const cluster = require("node:cluster");
const http = require("node:http");
const { EventEmitter } = require("node:events");
const { setupPrimary, setupWorker } = require("@socket.io/sticky");
const { WebSocketServer } = require("ws");

const [port, workers] = process.argv.slice(2).map(Number);
const SID = /sid=([\w-]{20})/;
const KEEP_ALIVE = 600_000;
const BODY = Buffer.from("hello, world\n");
const LARGE = Buffer.alloc(10_000_000, "x");

function serve() {
  const seen = new Set();
  const engine = new EventEmitter();
  const announce = (request) => {
    const sid = SID.exec(request.headers["x-session"] || "")?.[1];
    if (sid && !seen.has(sid)) {
      seen.add(sid);
      const session = new EventEmitter();
      session.id = sid;
      engine.emit("connection", session);
    }
  };
  const httpServer = http.createServer((request, response) => {
    announce(request);
    const body = request.url === "/" ? BODY : request.url === "/large" ? LARGE : "";
    if (request.url === "/pid") response.setHeader("x-pid", process.pid);
    response.setHeader("content-type", "text/plain");
    response.setHeader("content-length", body.length);
    response.end(body);
  });
  httpServer.keepAliveTimeout = KEEP_ALIVE;
  httpServer.requestTimeout = 0;
  new WebSocketServer({ server: httpServer }).on("connection", (socket, request) => {
    announce(request);
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  setupWorker({ httpServer, engine });
}

if (cluster.isPrimary) {
  const httpServer = http.createServer();
  setupPrimary(httpServer);
  cluster.setupPrimary({ serialization: "advanced" }); // its README asks for that
  for (let i = 0; i < workers; i++) cluster.fork();
  httpServer.listen({ port, host: "127.0.0.1", backlog: 2048 });
} else {
  serve();
}
