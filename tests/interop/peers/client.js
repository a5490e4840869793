// Drives an echo server with npm's ws; says `ok`, or what went wrong: see client.py.
//
// client.js URL [CA]
const fs = require('fs');
const assert = require('assert');
const WebSocket = require('ws');

const [url, ca] = process.argv.slice(2);
const options = { maxPayload: 64 << 20, perMessageDeflate: { threshold: 0 }, ...(ca && { ca: fs.readFileSync(ca) }) };
const MIB = 1 << 20;
const MESSAGES = [
  'hello', '', Buffer.alloc(0), Buffer.from([...Array(256).keys()]), 'grüße, 世界',
  'ä'.repeat(MIB / 2), Buffer.alloc(MIB, 0xa5),
];
const FRAGMENTED = [
  ['a', '', 'bc', 'ä'],
  [Buffer.alloc(1), Buffer.alloc(70000, 0xff), Buffer.alloc(0)],
  Array(1000).fill('x'.repeat(1000)),
];

const next = (ws, event) => new Promise((done) => ws.once(event, (...values) => done(values)));
const whole = (list) => (typeof list[0] === 'string' ? list.join('') : Buffer.concat(list));
function same([data, binary], expected) {
  assert.strictEqual(binary, typeof expected !== 'string');
  assert.ok(data.equals(Buffer.from(expected)), `${data.length} bytes differ`);
}

async function main() {
  const ws = new WebSocket(url, options);
  await next(ws, 'open');
  for (const message of MESSAGES) {
    ws.send(message);
    same(await next(ws, 'message'), message);
  }
  for (const list of FRAGMENTED) {
    list.forEach((part, i) =>
      ws.send(part, { binary: typeof part !== 'string', fin: i === list.length - 1 }));
    same(await next(ws, 'message'), whole(list));
  }
  ws.ping('between');
  assert.strictEqual((await next(ws, 'pong'))[0].toString(), 'between');
  const closed = next(ws, 'close');
  ws.send('close me');
  const [code, reason] = await closed;
  assert.strictEqual(`${code} ${reason}`, '4003 as you wish');

  const second = new WebSocket(url, options);
  await next(second, 'open');
  second.close(4002, 'done');
  assert.strictEqual((await next(second, 'close'))[0], 4002);
  console.log('ok');
  process.exit(0);
}

setTimeout(() => { console.error('one minute was not enough'); process.exit(1); }, 60_000);
main().catch((e) => { console.error(e); process.exit(1); });
