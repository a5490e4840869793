// Drives a browser by its DevTools protocol: browser.js WS_URL. A line in, a line out:
//   open URL | eval PAGE JS | files PAGE SELECTOR<tab>PATH | shot PAGE PATH
// Answers are `ok JSON` or `error TEXT`.
const WebSocket = require("ws");
const fs = require("fs");
const readline = require("readline");

const socket = new WebSocket(process.argv[2], { perMessageDeflate: false });
const waiting = new Map();
let last = 0;

function call(method, params = {}, sessionId) {
  const id = ++last;
  socket.send(JSON.stringify({ id, method, params, sessionId }));
  return new Promise((done, failed) => waiting.set(id, { done, failed }));
}

socket.on("message", text => {
  const { id, result, error } = JSON.parse(text);
  const one = waiting.get(id);
  if (!one) return;
  waiting.delete(id);
  error ? one.failed(new Error(error.message)) : one.done(result);
});
socket.on("close", () => process.exit(0));
socket.on("error", e => { console.log("error " + e.message); process.exit(1); });

const commands = {
  async open(url) {
    const { targetId } = await call("Target.createTarget", { url });
    return (await call("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  },
  async eval(text) {
    const [page, js] = split(text, " ");
    const params = { expression: js, returnByValue: true, awaitPromise: true };
    const { result, exceptionDetails } = await call("Runtime.evaluate", params, page);
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description || "thrown");
    return result.value ?? null;
  },
  async files(text) {
    const [page, rest] = split(text, " ");
    const [selector, path] = split(rest, "\t");
    const { root } = await call("DOM.getDocument", {}, page);
    const found = await call("DOM.querySelector", { nodeId: root.nodeId, selector }, page);
    await call("DOM.setFileInputFiles", { files: [path], nodeId: found.nodeId }, page);
    return true;
  },
  async shot(text) {
    const [page, path] = split(text, " ");
    const { data } = await call("Page.captureScreenshot", {}, page);
    fs.writeFileSync(path, Buffer.from(data, "base64"));
    return true;
  },
};

function split(text, by) {
  const at = text.indexOf(by);
  return [text.slice(0, at), text.slice(at + by.length)];
}

socket.on("open", async () => {
  console.log("ready");
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, rest] = split(line, " ");
    try {
      console.log("ok " + JSON.stringify(await commands[name](rest)));
    } catch (e) {
      console.log("error " + String(e.message || e).split("\n")[0]);
    }
  }
  process.exit(0);
});
