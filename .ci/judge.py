#!/usr/bin/env python3
"""Judges what .ci/run measured; says what is wrong and exits with 1 where something is."""
import json
import os
import re
import sys


def tree(path, most, allowed="once"):
    """The crates of a dependency tree: how many, and whether one comes in two versions."""
    lines = {line.removesuffix(" (*)").split(" (")[0] for line in open(path).read().splitlines()}
    crates = sorted(line for line in lines if line and not line.startswith("workerman "))
    names = [line.split()[0] for line in crates]
    twice = sorted({name for name in names if names.count(name) > 1})
    print(f"-- {len(crates)} crates (at most {most})")
    if len(crates) > int(most):
        yield f"{len(crates)} crates, more than {most}: {', '.join(crates)}"
    if twice and allowed == "once":
        yield f"in two versions: {', '.join(twice)}"


def versions(most):
    """No dependency that asks for a newer compiler than we do."""
    metadata = json.load(sys.stdin)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    number = lambda version: [int(part) for part in version.split(".")]
    for package in metadata["packages"]:
        wanted = package.get("rust_version")
        if package["id"] in used and wanted and number(wanted)[:2] > number(most):
            yield f"{package['name']} {package['version']} wants Rust {wanted}"


# What goes well with "MIT OR Apache-2.0": nothing that binds the program around it.
ALLOWED = {
    "MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "Unicode-3.0",
    "CDLA-Permissive-2.0",
}


def is_allowed(tokens):
    """An SPDX expression, taken off the front of its tokens: OR binds less than AND than WITH."""
    def term():
        name = tokens.pop(0)
        if name == "(":
            inner = is_allowed(tokens)
            tokens.pop(0)
            return inner
        if tokens[:1] == ["WITH"]:
            # An exception permits more than the licence alone.
            del tokens[:2]
        return name in ALLOWED

    def conjunction():
        fine = term()
        while tokens[:1] == ["AND"]:
            tokens.pop(0)
            fine = term() and fine
        return fine

    fine = conjunction()
    while tokens[:1] == ["OR"]:
        tokens.pop(0)
        fine = conjunction() or fine
    return fine


def licences():
    """Of every dependency, those of the tests too: one that may be chosen is allowed."""
    metadata = json.load(sys.stdin)
    used = {node["id"] for node in metadata["resolve"]["nodes"]}
    packages = [package for package in metadata["packages"] if package["id"] in used]
    for package in packages:
        licence = (package["license"] or "").replace("/", " OR ")
        tokens = re.findall(r"[()]|[^\s()]+", licence)
        if not tokens or not is_allowed(tokens) or tokens:
            yield f"{package['name']} {package['version']} has the licence {licence or 'of nobody'}"
    print(f"-- {len(packages)} licences looked at")


INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}


def autobahn(out):
    """Every case OK in both columns, but for the three that are informational for everybody."""
    try:
        agents = json.load(open(os.path.join(out, "index.json")))
        wanted = set(json.load(open(os.path.join(out, "cases.json"))))
    except OSError as e:
        yield f"no report: {e}"
        return
    if not agents:
        yield "no agent in the report"
    for agent, cases in agents.items():
        fine = 0
        for case, result in sorted(cases.items()):
            columns = (result["behavior"], result["behaviorClose"])
            allowed = ("INFORMATIONAL", "OK") if case in INFORMATIONAL else ("OK",)
            if all(column in allowed for column in columns):
                fine += 1
            else:
                yield f"{agent} {case}: behavior {columns[0]}, close {columns[1]}"
        print(f"-- {agent}: {fine} of {len(wanted)} cases as they should be")
        if missing := sorted(wanted - set(cases)):
            yield f"{agent} did not run: {' '.join(missing)}"


# Per message: what is counted, where, and the most that is allowed.
COUNTS = {
    ("callgrind", "1x1x64"): ("user-space instructions", 1000),
    ("callgrind", "64x16x64"): ("user-space instructions", 450),
    ("strace", "64x16x64"): ("syscalls", 0.15),
    # One read and one write a batch of many messages, not a message.
    ("strace-client", "echo-flood-64"): ("syscalls", 0.05),
}


def counts(*paths):
    found = set()
    for path in paths:
        tool = os.path.basename(path).removesuffix(".jsonl")
        for line in open(path):
            result = json.loads(line)
            key = (tool, result["case"])
            what, most = COUNTS[key]
            found.add(key)
            print(f"-- {result['case']}: {result['total']} {what} a message (at most {most})")
            if result["total"] > most:
                yield f"{key}: {result['total']}, of which {result['calls']}"
    for key in COUNTS.keys() - found:
        yield f"{key} was not counted"


def total(*logs):
    """The plain closing line, from what the test runners counted."""
    sums = [0, 0, 0]
    for log in logs:
        for line in open(log, errors="replace"):
            if m := re.match(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", line):
                sums = [sum + int(count) for sum, count in zip(sums, m.groups())]
    if sums[0] == 0:
        yield "no test ran"
    print(f"{sums[0]} passed, {sums[1]} failed" + (f", {sums[2]} skipped" if sums[2] else ""))


if __name__ == "__main__":
    judges = {judge.__name__: judge for judge in (tree, versions, licences, autobahn, counts, total)}
    problems = list(judges[sys.argv[1]](*sys.argv[2:]))
    for problem in problems:
        print(f"-- {problem}")
    sys.exit(1 if problems else 0)
