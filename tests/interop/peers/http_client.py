"""Drives our HTTP server with PyPI's requests and aiohttp; says `ok`, or what went wrong.

http_client.py requests URL [CA]: forms, bodies, ranges over kept connections
http_client.py sessions URL [CA]: cookies of sessions
http_client.py aiohttp URL: many at once, pieces as they come, a WebSocket on the same port
http_client.py events URL: the first server-sent events of a page
http_client.py upload URL FILE: a file by a form, and again by the link that the page shows
"""
import asyncio
import hashlib
import re
import sys
import time

MIB = 1 << 20
LARGE = bytes((n * n >> 7) & 255 for n in range(5 * MIB))
PATIENCE = 15


def same(found, expected):
    if found != expected or type(found) is not type(expected):
        sys.exit(f"{found!r:.200} instead of {expected!r:.200}")


def digest(data):
    return hashlib.sha256(data).hexdigest()


def session():
    import requests

    session = requests.Session()
    session.trust_env = False  # A proxy for others is not for loopback.
    send = session.request
    session.request = lambda *a, **more: send(*a, **{"timeout": PATIENCE} | more)
    return session


def by_requests(url, ca=None):
    import requests

    with session() as s:
        if ca:
            try:
                s.get(url)
                sys.exit("a certificate of an unknown authority was taken")
            except requests.exceptions.SSLError:
                pass
            s.verify = ca
        for n in range(5):
            same(s.get(f"{url}/hello").text, "hello")
        answer = s.get(f"{url}/nowhere")
        same((answer.status_code, answer.text), (404, "no /nowhere here"))
        same(s.post(f"{url}/body", data=b"").text, "0 by POST")

        pieces = (LARGE[at : at + 70_001] for at in range(0, len(LARGE), 70_001))
        same(s.put(f"{url}/body", data=pieces).text, f"{len(LARGE)} by PUT")
        same(digest(s.get(f"{url}/kept").content), digest(LARGE))
        turned = LARGE[::-1]
        form = {"data": {"title": "ein Bär"}, "files": {"file": ("bär.bin", turned)}}
        same(s.post(f"{url}/form", **form).text, f"ein Bär: {len(turned)} of bär.bin")
        ranges(s, f"{url}/kept", turned)

        same("".join(s.get(f"{url}/pieces", stream=True).iter_content(None, True)), "one two three")
        pools = s.get_adapter(url).poolmanager.pools
        # One more for the failed handshake; the download that was broken off opens its own anew.
        same(sum(pools.get(key).num_connections for key in pools.keys()), 2 if ca else 1)
    print("ok", flush=True)


def ranges(s, url, whole):
    """A download that broke off goes on where it ended, unless the file is another."""
    with s.get(url, stream=True) as broken:
        begun, tag = broken.raw.read(1_234_567), broken.headers["ETag"]
    more = {"Range": f"bytes={len(begun)}-", "If-Range": tag}
    rest = s.get(url, headers=more)
    same(rest.status_code, 206)
    same(rest.headers["Content-Range"], f"bytes {len(begun)}-{len(whole) - 1}/{len(whole)}")
    same(digest(begun + rest.content), digest(whole))
    same(s.get(url, headers=more | {"If-Range": '"another"'}).status_code, 200)
    same(s.get(url, headers={"Range": f"bytes={len(whole)}-"}).status_code, 416)
    same(s.get(url, headers={"If-None-Match": tag}).status_code, 304)
    same(s.get(url, headers={"Range": "bytes=-5"}).content, whole[-5:])


def by_sessions(url, ca=None):
    with session() as one, session() as other:
        one.verify = other.verify = ca or True
        for n in range(3):
            same(one.get(f"{url}/visit").text, f"{n} visits before")
        same(other.get(f"{url}/visit").text, "0 visits before")
        (cookie,) = one.cookies
        same((cookie.name, cookie.path, cookie.secure), ("PHPSID", "/", bool(ca)))
        same(cookie.has_nonstandard_attr("HttpOnly"), True)
        same(1400 < cookie.expires - time.time() < 1450, True)
        before = cookie.value

        same(one.get(f"{url}/login?user=ein+B%C3%A4r").text, "ein Bär")
        (cookie,) = one.cookies
        if cookie.value == before:
            sys.exit("who logs in keeps the id that others may have seen")
        other.cookies.clear()
        same(other.get(f"{url}/user", cookies={"PHPSID": before}).text, "nobody")
        same(other.get(f"{url}/user", cookies={"PHPSID": cookie.value}).text, "ein Bär")
        same(one.get(f"{url}/visit").text, "3 visits before")
        same(one.get(f"{url}/logout").text, "bye")
        same(one.get(f"{url}/user").text, "nobody")
    print("ok", flush=True)


async def by_aiohttp(url):
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=8)) as s:

        async def hello():
            async with s.get(f"{url}/hello") as answer:
                return await answer.text()

        same(await asyncio.gather(*(hello() for _ in range(200))), ["hello"] * 200)

        async with s.get(f"{url}/pieces") as answer:
            same(answer.headers["Transfer-Encoding"], "chunked")
            pieces = [piece async for piece, _ in answer.content.iter_chunks() if piece]
            same(pieces, [b"one ", b"two ", b"three"])

        async def body():
            for at in range(0, len(LARGE), 100_003):
                yield LARGE[at : at + 100_003]

        async with s.put(f"{url}/body", data=body(), expect100=True) as answer:
            same(await answer.text(), f"{len(LARGE)} by PUT")
        async with s.get(f"{url}/kept") as answer:
            same(digest(await answer.read()), digest(LARGE))

        async with s.ws_connect(f"{url}/ws", max_msg_size=0) as ws:
            for message in ["grüße", b"\x00\xff", LARGE]:
                await (ws.send_str if isinstance(message, str) else ws.send_bytes)(message)
                same((await ws.receive(PATIENCE)).data, message)
            await ws.send_str("close me")
            closed = await ws.receive(PATIENCE)
            same((closed.type, closed.data), (aiohttp.WSMsgType.CLOSE, 4003))
    print("ok", flush=True)


async def by_events(url):
    import aiohttp

    async with aiohttp.ClientSession() as s:
        async with s.get(f"{url}/events", headers={"Accept": "text/event-stream"}) as answer:
            same(answer.headers["Content-Type"], "text/event-stream")
            seconds, viewers = [], []
            name, data = "message", []
            while len(seconds) < 2 or not viewers:
                line = (await answer.content.readline()).decode().rstrip("\n")
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif line == "" and data:
                    {"message": seconds, "viewers": viewers}[name].append(int("\n".join(data)))
                    name, data = "message", []
            same(viewers, [1])
            same(seconds[1] - seconds[0], 1)
    print("ok", flush=True)


def by_upload(url, path):
    with open(path, "rb") as file:
        content = file.read()
    with session() as s, open(path, "rb") as file:
        page = s.post(url, data={"title": "a <b>"}, files={"files": ("<i>.bin", file)}).text
        if "a &lt;b&gt;" not in page or "<i>" in page:
            sys.exit(f"what a client sends is not escaped: {page}")
        found = re.search(r'<a href="(/kept/\d+)">&lt;i&gt;.bin</a>, (\d+) bytes', page)
        if not found:
            sys.exit(f"no link: {page}")
        same(int(found[2]), len(content))
        same(digest(s.get(url + found[1]).content), digest(content))
    print("ok", flush=True)


how, arguments = sys.argv[1], sys.argv[2:]
if how == "requests":
    by_requests(*arguments)
elif how == "sessions":
    by_sessions(*arguments)
elif how == "upload":
    by_upload(*arguments)
else:
    drive = {"aiohttp": by_aiohttp, "events": by_events}[how]
    asyncio.run(asyncio.wait_for(drive(*arguments), 25))
