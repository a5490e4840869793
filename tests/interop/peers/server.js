// A server made with npm's ws, on loopback: see server.py, which does the same.
//
// server.js PORT [tls CERT KEY]
const fs = require('fs');
const { WebSocketServer } = require('ws');

const [port, kind, cert, key] = process.argv.slice(2);
const say = (line) => process.stdout.write(line + '\n');
const http =
  kind === 'tls'
    ? require('https').createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) })
    : require('http').createServer();
const server = new WebSocketServer({
  server: http,
  maxPayload: 64 << 20,
  perMessageDeflate: { threshold: 0 }, // with those who offer it
  verifyClient: ({ req }, answer) => answer(req.url !== '/refuse', 403, 'not you\n'),
});

function sendPieces(ws, data, binary) {
  // A piece may end inside a character: only the whole message is text.
  const size = Math.max(1, Math.floor(data.length / 7));
  if (data.length === 0) ws.send(data, { binary });
  for (let at = 0; at < data.length; at += size) {
    const fin = at + size >= data.length;
    ws.send(data.subarray(at, at + size), { binary, fin });
  }
}

server.on('connection', (ws, request) => {
  const path = request.url.split('?')[0];
  if (path !== '/die') {
    say(`request ${request.url}`);
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      say(`header ${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
    }
    say('end of request');
  }
  ws.on('error', () => {});
  ws.on('close', (code, reason) => {
    if (path !== '/die') say(`closed ${code} ${reason}`);
  });
  ws.on('message', (data, binary) => {
    if (path === '/die') request.socket.resetAndDestroy();
    else if (path === '/close') ws.close(4001, 'bye');
    else if (path === '/fragments') sendPieces(ws, data, binary);
    else ws.send(data, { binary });
  });
  if (path === '/first') ws.send('first');
  if (path === '/ping') {
    ws.ping('from the server');
    ws.on('pong', (payload) => {
      if (payload.toString() === 'from the server') ws.send('pong came');
    });
  }
});
http.listen(Number(port), '127.0.0.1', () => say(`listening ${http.address().port}`));
process.stdin.on('end', () => process.exit(0)).resume();
setTimeout(() => process.exit(0), 300_000);
