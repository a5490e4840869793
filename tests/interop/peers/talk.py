"""A person at a WebSocket, by PyPI's websockets: sends the lines of its input, prints what comes.

talk.py URL
"""
import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def say(ws):
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await ws.send(line.rstrip("\n"))


async def main(url):
    async with connect(url, proxy=None) as ws:
        print("open", flush=True)
        saying = asyncio.create_task(say(ws))
        try:
            while True:
                print("recv " + json.dumps(await ws.recv(), ensure_ascii=False), flush=True)
        except ConnectionClosed:
            print("closed", ws.close_code, flush=True)
        saying.cancel()
        # Its input may stay open for ever.
        os._exit(0)


asyncio.run(main(sys.argv[1]))
