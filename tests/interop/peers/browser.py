"""A headless Chromium, driven through its DevTools protocol by PyPI's websockets.

browser.py FOLDER [ARGUMENT...]: FOLDER is an empty one for its profile, ARGUMENTs are Chromium's.

Prints `ready`; then for each line of its input, words with tabs between them, a line `ok VALUE` or
`error WHY`. The lines:

open URL: a page of its own, loaded; its number
evaluate PAGE JAVASCRIPT: its value, once it is no promise any more
wait PAGE JAVASCRIPT: as above, again and again until the value is true
click PAGE SELECTOR: in its middle, as a mouse does
type PAGE SELECTOR TEXT: as a keyboard does
file PAGE SELECTOR PATH: chosen in an `<input type=file>`
close PAGE: as a person closes a tab
picture PAGE PATH: what it looks like, as PNG

It ends with its input, and Chromium with all its processes at the latest five minutes later.
"""
import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 20
OPTIONS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--no-proxy-server", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--mute-audio", "--window-size=900,600",
    "--remote-debugging-port=0",
]


class Page:
    """One tab, and what it answers."""

    def __init__(self, socket):
        self.socket = socket
        self.count = 0
        self.waiting = {}
        self.reader = asyncio.create_task(self.read())

    async def read(self):
        try:
            async for message in self.socket:
                message = json.loads(message)
                future = self.waiting.pop(message.get("id"), None)
                if future and not future.done():
                    future.set_result(message)
        except ConnectionClosed:
            pass

    async def call(self, method, **parameters):
        self.count += 1
        future = self.waiting[self.count] = asyncio.get_running_loop().create_future()
        request = {"id": self.count, "method": method, "params": parameters}
        await self.socket.send(json.dumps(request))
        answer = await asyncio.wait_for(future, PATIENCE)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def evaluate(self, script):
        options = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        answer = await self.call("Runtime.evaluate", expression=script, **options)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"].get("exception", {}).get("description")
            raise RuntimeError(f"{script} throws {thrown}")
        return answer["result"].get("value")

    async def wait(self, script):
        """Asked again at every turn, also across a page's end."""
        last = None
        for _ in range(PATIENCE * 50):
            try:
                last = await self.evaluate(script)
                if last:
                    return last
            except RuntimeError as error:
                last = error
            await asyncio.sleep(0.02)
        text = await self.evaluate("document.body ? document.body.innerText : ''")
        raise RuntimeError(f"never true: {script} ({last!r}); the page reads {text!r:.500}")

    async def node(self, selector):
        document = await self.call("DOM.getDocument", depth=0)
        root = document["root"]["nodeId"]
        found = await self.call("DOM.querySelector", nodeId=root, selector=selector)
        if not found["nodeId"]:
            raise RuntimeError(f"the page has no {selector}")
        return found["nodeId"]

    async def click(self, selector):
        node = await self.node(selector)
        await self.call("DOM.scrollIntoViewIfNeeded", nodeId=node)
        quad = (await self.call("DOM.getBoxModel", nodeId=node))["model"]["content"]
        x, y = sum(quad[::2]) / 4, sum(quad[1::2]) / 4
        for kind in ["mousePressed", "mouseReleased"]:
            mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
            await self.call("Input.dispatchMouseEvent", type=kind, **mouse)

    async def type(self, selector, text):
        await self.call("DOM.focus", nodeId=await self.node(selector))
        await self.call("Input.insertText", text=text)

    async def file(self, selector, path):
        node = await self.node(selector)
        await self.call("DOM.setFileInputFiles", nodeId=node, files=[path])

    async def close(self):
        self.count += 1
        await self.socket.send(json.dumps({"id": self.count, "method": "Page.close"}))
        await asyncio.wait_for(self.reader, PATIENCE)

    async def picture(self, path):
        # One that lies behind others is not drawn.
        await self.call("Page.bringToFront")
        data = (await self.call("Page.captureScreenshot", format="png"))["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))


class Browser:
    def __init__(self, port):
        self.port = port
        self.pages = []

    async def open(self, url):
        def new():
            direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            address = f"http://127.0.0.1:{self.port}/json/new?about:blank"
            request = urllib.request.Request(address, method="PUT")
            with direct.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)["webSocketDebuggerUrl"]

        address = await asyncio.to_thread(new)
        page = Page(await connect(address, max_size=None, proxy=None, ping_interval=None))
        self.pages.append(page)
        for domain in ["Page", "Runtime", "DOM"]:
            await page.call(f"{domain}.enable")
        answer = await page.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise RuntimeError(f"{url} does not open: {answer['errorText']}")
        await page.wait(f"location.href !== 'about:blank' && document.readyState === 'complete'")
        return len(self.pages) - 1

    async def do(self, what, *arguments):
        if what == "open":
            return await self.open(*arguments)
        if what not in ["evaluate", "wait", "click", "type", "file", "close", "picture"]:
            raise RuntimeError(f"{what} is nothing that can be done")
        page, *arguments = arguments
        return await getattr(self.pages[int(page)], what)(*arguments)


async def main(folder, chromium):
    path = os.path.join(folder, "DevToolsActivePort")
    for _ in range(PATIENCE * 50):
        if os.path.exists(path) and (lines := open(path).read().split("\n"))[1:]:
            break
        if chromium.poll() is not None:
            sys.exit(f"chromium ended with {chromium.returncode}")
        await asyncio.sleep(0.02)
    else:
        sys.exit("chromium does not say where it listens")
    browser = Browser(int(lines[0]))
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            value = await browser.do(*line.rstrip("\n").split("\t"))
            answer = "ok " + (value if isinstance(value, str) else json.dumps(value))
        except Exception as error:
            answer = f"error {type(error).__name__}: {error}"
        print(" ".join(answer.splitlines()), flush=True)


def run(folder, *arguments):
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        sys.exit("there is no chromium")
    command = [program, *OPTIONS, f"--user-data-dir={folder}", *arguments]
    # A group of its own, so that none of its many processes stays.
    with open(os.path.join(folder, "log"), "wb") as log:
        chromium = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    ending = []

    def end(status):
        if ending:
            return
        ending.append(status)
        try:
            os.killpg(chromium.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        chromium.wait()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(status)

    signal.signal(signal.SIGTERM, lambda *_: end(1))
    guard = threading.Timer(300, end, [1])
    guard.daemon = True
    guard.start()
    try:
        asyncio.run(main(folder, chromium))
        end(0)
    except BaseException as error:
        print(error, file=sys.stderr, flush=True)
        end(1)


run(*sys.argv[1:])
