"""Drives an echo server with PyPI's websockets; says `ok`, or what went wrong.

client.py URL [CA]
"""
import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

MIB = 1 << 20
MESSAGES = ["hello", "", b"", bytes(range(256)), "grüße, 世界", "ä" * (MIB // 2), b"\xa5" * MIB]
FRAGMENTED = [["a", "", "bc", "ä"], [b"\x00", b"\xff" * 70000, b""], ["x" * 1000] * 1000]


async def main(url, ca):
    options = {"max_size": None, "proxy": None}
    if ca:
        options["ssl"] = ssl.create_default_context(cafile=ca)
    async with connect(url, **options) as ws:
        for message in MESSAGES:
            await ws.send(message)
            same(await ws.recv(), message)
        for fragments in FRAGMENTED:
            await ws.send(fragments)
            same(await ws.recv(), type(fragments[0])().join(fragments))
        for message in MESSAGES:
            await ws.send(message)
        await (await ws.ping(b"between"))
        for message in MESSAGES:
            same(await ws.recv(), message)
        await ws.send("close me")
        try:
            await ws.recv()
            sys.exit("the server did not close")
        except ConnectionClosed:
            same((ws.close_code, ws.close_reason), (4003, "as you wish"))
    ws = await connect(url, **options)
    await ws.close(4002, "done")
    same(ws.close_code, 4002)
    print("ok", flush=True)


def same(found, expected):
    if found != expected or type(found) is not type(expected):
        sys.exit(f"{found!r:.200} instead of {expected!r:.200}")


async def watched(url, ca=None):
    await asyncio.wait_for(main(url, ca), 60)


asyncio.run(watched(*sys.argv[1:]))
