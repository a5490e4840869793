"""Datagrams by Python's own socket module.

datagrams.py drive PORT   drives an echo server; says `ok`, or what went wrong
datagrams.py serve        an echo server; says its port
"""
import socket
import sys

MESSAGES = [b"hello", b"", bytes(range(256)), "grüße, 世界".encode(), b"\xa5" * 65507]


def drive(port):
    peers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for peer in peers:
        peer.settimeout(20)
        peer.connect(("127.0.0.1", port))
    for message in MESSAGES:
        for number, peer in enumerate(peers):
            peer.send(message[: len(message) - number])
        for number, peer in enumerate(peers):
            got = peer.recv(65536)
            wanted = message[: len(message) - number]
            if got != wanted:
                sys.exit(f"peer {number} got {len(got)} bytes, not its own {len(wanted)}")
    print("ok", flush=True)


def serve():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        message, sender = server.recvfrom(65536)
        server.sendto(message, sender)


if sys.argv[1] == "drive":
    drive(int(sys.argv[2]))
else:
    serve()
