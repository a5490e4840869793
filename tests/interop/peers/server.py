"""A server made with PyPI's websockets, on loopback.

server.py PORT [wait] [tls CERT KEY]

PORT 0: the system chooses. `wait`: binds when a line comes on standard input. Prints
`listening PORT`, then for each connection `request PATH`, `header NAME: VALUE` for each header,
`end of request`, and `closed CODE REASON` when it has closed. It ends with its standard input, and after five minutes at most.
"""
import asyncio
import os
import ssl
import sys
import threading
from urllib.parse import urlsplit

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


def say(line):
    print(line, flush=True)


def pieces(message):
    size = max(1, len(message) // 7)
    return [message[at : at + size] for at in range(0, len(message), size)] or [message]


async def handle(ws):
    path = urlsplit(ws.request.path).path
    lines = [f"request {ws.request.path}"]
    lines += [f"header {name}: {value}" for name, value in ws.request.headers.raw_items()]
    if path != "/die":
        say("\n".join(lines + ["end of request"]))
    try:
        if path == "/die":
            await ws.recv()
            ws.transport.abort()
            return
        if path == "/first":
            await ws.send("first")
        if path == "/close":
            await ws.recv()
            await ws.close(4001, "bye")
        if path == "/ping":
            await (await ws.ping(b"from the server"))
            await ws.send("pong came")
        async for message in ws:
            await ws.send(pieces(message) if path == "/fragments" else message)
    except ConnectionClosed:
        pass
    finally:
        if path != "/die":
            await ws.wait_closed()
            say(f"closed {ws.close_code} {ws.close_reason}")


def refuse(connection, request):
    if request.path == "/refuse":
        return connection.respond(403, "not you\n")


def end_with_standard_input():
    for _ in sys.stdin:
        pass
    os._exit(0)


async def main(port, tls):
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    options = dict(ssl=context, max_size=None, process_request=refuse, ping_interval=None)
    async with serve(handle, "127.0.0.1", port, **options) as server:
        say(f"listening {server.sockets[0].getsockname()[1]}")
        await asyncio.sleep(300)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if "wait" in arguments:
        say("waiting")
        sys.stdin.readline()
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    tls = arguments[arguments.index("tls") + 1 :][:2] if "tls" in arguments else None
    asyncio.run(main(int(arguments[0]), tls))
