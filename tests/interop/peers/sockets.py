"""Drives the examples over raw sockets, with Python's own libraries; says `ok`, or what went wrong.

sockets.py lines PORT
sockets.py json PORT
sockets.py files PORT FOLDER
"""
import json
import os
import socket
import struct
import sys
import time


def connect(port):
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def until_end(sock):
    came = b""
    while piece := sock.recv(65536):
        came += piece
    return came


def expect(got, wanted):
    assert got == wanted, f"{got!r} is not {wanted!r}"


def lines(port):
    # As telnet types, and as `printf .. | nc -N` does.
    sock = connect(port)
    reader = sock.makefile("rb")
    sock.sendall(b"hello\r\n")
    expect(reader.readline(), b"hello\n")
    for byte in "grüße\n".encode():
        sock.sendall(bytes([byte]))
    expect(reader.readline(), "grüße\n".encode())
    sock.sendall(b"quit\r\nnot heard\r\n")
    expect(reader.read(), b"bye\n")
    sock = connect(port)
    sock.sendall(b"one\ntwo\nhalf a line")
    sock.shutdown(socket.SHUT_WR)
    expect(until_end(sock), b"one\ntwo\n")


def json_lines(port):
    sock = connect(port)
    reader = sock.makefile("rb")
    values = [{"type": "message", "content": "grüße, 世界 \n \u0000"}, [1, 2.5, None], "x" * 100_000]
    for value in values:
        text = json.dumps(value).encode() + b"\n"
        cut = min(len(text) // 2, 7)
        sock.sendall(text[:cut])
        sock.sendall(text[cut:])
        expect(json.loads(reader.readline()), {"code": 0, "msg": "ok", "got": value})
    # Many in one piece come back in their order.
    sock.sendall(b"".join(json.dumps(n).encode() + b"\n" for n in range(100)))
    for n in range(100):
        expect(json.loads(reader.readline())["got"], n)
    # What is no JSON ends this connection, and no other.
    other = connect(port)
    other.sendall(b'"still here"\n')
    sock.sendall(b"{no json}\n")
    expect(reader.read(), b"")
    expect(json.loads(other.makefile("rb").readline())["got"], "still here")


def head(name, length):
    return struct.pack(">IB", 5 + len(name) + length, len(name)) + name


def send_file(port, name, content, end=True):
    sock = connect(port)
    whole = head(name, len(content)) + content
    sock.sendall(whole[:3])
    sock.sendall(whole[3:11])
    sock.sendall(whole[11:])
    if end:
        sock.shutdown(socket.SHUT_WR)
    return sock


def files(port, folder):
    content = os.urandom(12 << 20)  # More than Limits::message_bytes.
    path = os.path.join(folder, "large file.bin")
    expect(until_end(send_file(port, b"large file.bin", content)), f"kept {path}\n".encode())
    with open(path, "rb") as file:
        assert file.read() == content, "what was kept is not what was sent"
    # Two on one connection, the first of them empty.
    sock = connect(port)
    sock.sendall(head(b"empty", 0) + head(b"small", 3) + b"abc")
    sock.shutdown(socket.SHUT_WR)
    kept = "".join(f"kept {os.path.join(folder, name)}\n" for name in ["empty", "small"])
    expect(until_end(sock), kept.encode())
    with open(os.path.join(folder, "small"), "rb") as file:
        expect(file.read(), b"abc")
    # Names that lead elsewhere are not taken, and neither is a name that is there already.
    for name in [b"../outside", b"/tmp/outside", b"..", b".hidden", b"a/b", b"", b"a\0b"]:
        expect(until_end(send_file(port, name, b"bad")), b"that name is not taken\n")
    until_end(send_file(port, b"small", b"other"))
    with open(os.path.join(folder, "small"), "rb") as file:
        expect(file.read(), b"abc")
    # A file that is cut off is not kept.
    sock = connect(port)
    sock.sendall(head(b"cut off", 1000) + b"only the beginning")
    sock.shutdown(socket.SHUT_WR)
    until_end(sock)
    end = time.monotonic() + 20  # It goes with its connection, a moment after that has ended.
    while "cut off" in os.listdir(folder) and time.monotonic() < end:
        time.sleep(0.01)
    expect(sorted(os.listdir(folder)), ["empty", "large file.bin", "small"])


if __name__ == "__main__":
    what, port, *rest = sys.argv[1:]
    {"lines": lines, "json": json_lines, "files": files}[what](int(port), *rest)
    print("ok", flush=True)
