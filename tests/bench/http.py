#!/usr/bin/env python3
"""Requests per CPU second of http servers under `wrk -t1 -c64`, in interleaved rounds.

    cargo build --release --example http_server
    cargo build --release --manifest-path tests/bench/Cargo.toml --target-dir target/bench
    python3 tests/bench/http.py [ROUNDS [SECONDS]]

Each server runs for the whole of the comparison and is asked in turn; what counts is the CPU time that
its process took (user and system, from /proc), not the wall clock of a shared machine.
"""
import os
import re
import socket
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
RIVALS = os.path.join(TARGET, "bench", "release")
SERVERS = {
    "raw mio": os.path.join(RIVALS, "raw_http"),
    "workerman": os.path.join(TARGET, "release", "examples", "http_server"),
    "hyper": os.path.join(RIVALS, "hyper_http"),
}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(port):
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nobody listens on port {port}")


def ask(server, port, seconds):
    """(requests, CPU seconds, wall seconds) of one run of wrk."""
    before = cpu_seconds(server.pid)
    began = time.monotonic()
    wrk = ["wrk", "-t1", "-c64", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    report = subprocess.run(wrk, check=True, capture_output=True, text=True).stdout
    passed = time.monotonic() - began
    if "Non-2xx" in report or "Socket errors" in report:
        sys.exit(f"not every answer was one:\n{report}")
    requests = int(re.search(r"(\d+) requests in", report).group(1))
    return requests, cpu_seconds(server.pid) - before, passed


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    running = {}
    try:
        for name, program in SERVERS.items():
            port = free_port()
            quiet = subprocess.DEVNULL
            server = subprocess.Popen([program, str(port)], stdout=quiet, stderr=quiet)
            running[name] = (server, port)
            wait_for(port)
        figures = {name: [] for name in running}
        for number in range(rounds):
            names = list(running)
            for name in names[number % len(names):] + names[: number % len(names)]:
                requests, cpu, wall = ask(*running[name], seconds)
                figures[name].append(requests / cpu)
                print(
                    f"round {number + 1}  {name:10}  {requests / wall:9.0f} requests/s"
                    f"  {requests / cpu:9.0f} requests per CPU second",
                    flush=True,
                )
    finally:
        for server, _ in running.values():
            server.kill()
    limit = statistics.median(figures["raw mio"])
    for name, values in figures.items():
        middle = statistics.median(values)
        print(
            f"{name:10}  median {middle:9.0f}  from {min(values):9.0f} to {max(values):9.0f}"
            f"  {middle / limit:.2f} of raw mio"
        )


main()
