// Node's own HTTP server with the paths of tests/upstream/conversations.py. It closes idle connections after 1 s, so that
// calls can meet a connection that is just being closed; `/cut` ends the connection in the middle of a body.
import http from "node:http";

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://node");
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", async () => {
    const body = Buffer.concat(parts);
    switch (url.pathname) {
      case "/echo":
        response.setHeader("content-length", body.length);
        return response.end(body);
      case "/stream":
        response.setHeader("content-type", "text/event-stream");
        for (let number = 0; number < Number(url.searchParams.get("n")); number++) {
          response.write(`data: ${number}\n\n`);
          await new Promise(setImmediate);
        }
        return response.end();
      case "/big":
        return response.end(Buffer.alloc(Number(url.searchParams.get("size")), "x"));
      case "/status":
        response.statusCode = Number(url.searchParams.get("code"));
        return response.end("refused");
      case "/trailers":
        response.setHeader("trailer", "x-end");
        response.write("ok");
        response.addTrailers({ "x-end": "1" });
        return response.end();
      case "/hints":
        response.writeEarlyHints({ link: "</x>; rel=preload" });
        response.writeProcessing();
        return response.end("ok");
      case "/cut":
        response.setHeader("content-length", 1000);
        response.write("half");
        return setTimeout(() => response.destroy(), 20);
      default:
        response.statusCode = 204;
        return response.end();
    }
  });
});
server.keepAliveTimeout = 1000;
server.listen(Number(process.argv[2]), "127.0.0.1");
