// Node's own cluster with the routes of plain.py: `node cluster.js PORT WORKERS plain|heavy`.
const cluster = require("cluster");
const http = require("http");

const [port, workers, app] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]];

if (cluster.isPrimary) {
  for (let slot = 0; slot < workers; slot += 1) cluster.fork();
  cluster.on("exit", () => cluster.fork());
} else {
  const ballast = [];
  if (app === "heavy") {
    const spent = () => process.cpuUsage().user + process.cpuUsage().system;
    const until = spent() + 1e6;
    for (let page = 0; page < 80 * 256; page += 1) ballast.push(Buffer.alloc(4000, page % 255));
    while (spent() < until);
  }
  const nap = new Int32Array(new SharedArrayBuffer(4));
  const answer = (response, body) => {
    response.writeHead(200, { "content-type": "text/plain", "content-length": body.length });
    response.end(body);
  };
  const megabyte = Buffer.alloc(1e6);
  const server = http.createServer((request, response) => {
    let body = "Hello, world!";
    if (request.url === "/post") {
      const pieces = [];
      request.on("data", (piece) => pieces.push(piece));
      request.on("end", () => answer(response, String(Buffer.concat(pieces).length)));
      return;
    }
    if (request.url === "/stream") {
      response.writeHead(200, { "content-type": "text/plain" });
      for (let piece = 0; piece < 100; piece += 1) response.write("ten bytes\n");
      response.end();
      return;
    }
    if (request.url === "/large") body = megabyte;
    if (request.url === "/pid") body = String(process.pid);
    else if (request.url === "/block") Atomics.wait(nap, 0, 0, 20);
    answer(response, body);
  });
  server.keepAliveTimeout = 65000;
  server.listen(port, "127.0.0.1");
}
