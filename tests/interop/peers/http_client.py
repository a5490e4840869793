"""requests and aiohttp against our http server: http_client.py URL [CA]. Prints ok at its end."""
import asyncio
import hashlib
import random
import sys

import aiohttp
import requests

url, ca = sys.argv[1], (sys.argv[2:] or [None])[0]
content = random.Random(1).randbytes(5 << 20)
digest = hashlib.sha256(content).hexdigest()


def with_requests():
    with requests.Session() as s:
        s.trust_env = False
        s.verify = ca or True
        for n in range(3):
            r = s.get(f"{url}/session", timeout=20)
            assert r.text == f"visit {n + 1}", r.text
        cookie = next(c for c in s.cookies if c.name == "PHPSID")
        assert cookie.secure == url.startswith("https"), cookie
        assert s.get(f"{url}/nothing", timeout=20).status_code == 404
        form = {"title": "é & ü"}
        r = s.post(f"{url}/form", data=form, files={"file": ("a b.bin", content)}, timeout=20)
        assert r.text == f"é & ü: {len(content)} of a b.bin", r.text
        assert hashlib.sha256(s.get(f"{url}/kept", timeout=20).content).hexdigest() == digest
        # A download that broke off goes on where it was.
        first = s.get(f"{url}/kept", headers={"Range": "bytes=0-999999"}, timeout=20)
        ours = {"Range": "bytes=1000000-", "If-Range": first.headers["ETag"]}
        rest = s.get(f"{url}/kept", headers=ours, timeout=20)
        assert (first.status_code, rest.status_code) == (206, 206)
        assert first.content + rest.content == content
        pieces = (content[n : n + 70_000] for n in range(0, len(content), 70_000))
        r = s.put(f"{url}/body", data=pieces, timeout=20)
        assert r.text == f"{len(content)} by PUT", r.text
        r = s.get(f"{url}/chunked", stream=True, timeout=20)
        assert b"".join(r.iter_content(7)) == b"piece 0;piece 1;piece 2;"


async def with_aiohttp():
    import ssl

    context = ssl.create_default_context(cafile=ca) if ca else True
    connector = aiohttp.TCPConnector(ssl=context, limit=4)
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as s:
        async def get(path):
            async with s.get(url + path) as r:
                return await r.text()

        # A hundred requests over four connections.
        said = await asyncio.gather(*(get(f"/{n}") for n in range(100)))
        assert said == [f"no /{n} here" for n in range(100)], said
        async with s.get(f"{url}/chunked") as r:
            assert await r.read() == b"piece 0;piece 1;piece 2;"
        async with s.get(f"{url}/events", headers={"Accept": "text/event-stream"}) as r:
            assert r.content_type == "text/event-stream"
            events = [(await r.content.readuntil(b"\n\n")).decode() for _ in range(3)]
        assert events == [f"event: tick\nid: {n}\ndata: {n}\n\n" for n in range(3)], events
        form = aiohttp.FormData({"title": "t"})
        form.add_field("file", content, filename="f.bin")
        async with s.post(f"{url}/form", data=form) as r:
            assert await r.text() == f"t: {len(content)} of f.bin"
        async with s.get(f"{url}/kept") as r:
            assert hashlib.sha256(await r.read()).hexdigest() == digest
        async with s.ws_connect(f"{url}/ws") as ws:
            await ws.send_str("hello")
            assert (await ws.receive()).data == "hello"


with_requests()
asyncio.run(with_aiohttp())
print("ok")
