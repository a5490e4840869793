#!/usr/bin/env python3
"""autobahn.py [--check] ROLE=REPORT... -- COMMAND...
Writes the section "Autobahn" of docs/conformance.md from the suite's reports.

ROLE is what was tested (server, client), REPORT a folder with the suite's index.json (a role may
have several, each with a part of the cases), COMMAND how
the reports were made, as a reader would repeat it. With --check nothing is written: the exit status
says whether the section's cases are those of the reports.

Every case must be OK in both columns, but for the three that are informational for everybody; where
one is not, or is missing, nothing is written and the exit status is 1.
"""
import datetime
import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(ROOT, "docs", "conformance.md")
BEGIN, END = "<!-- begin Autobahn -->\n", "<!-- end Autobahn -->"
# The suite judges nothing there: what is sent behind a close frame, and codes that nobody has defined.
INFORMATIONAL = {
    "7.1.6": "data behind a close frame: how much of it is read is left open",
    "7.13.1": "the close code 5000, about which the RFC says nothing",
    "7.13.2": "the close code 65535, about which the RFC says nothing",
}
GROUPS = {
    "1": "framing",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragmentation",
    "6": "UTF-8",
    "7": "close handling",
    "9": "limits and performance",
    "10": "automatic fragmentation",
    "12": "compression, by content",
    "13": "compression, by parameters",
}
# All of the suite's cases; a report with fewer is no full result.
SIZES = {
    "1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "9": 54, "10": 1, "12": 90, "13": 126,
}


def number(case):
    return [int(part) for part in case.split(".")]


def read(folder):
    """The cases of one report; of one agent."""
    with open(os.path.join(folder, "index.json")) as file:
        agents = list(json.load(file).values())
    if len(agents) != 1:
        sys.exit(f"{len(agents)} agents in {folder}, not one")
    return agents[0]


def judge(role, cases):
    """Rows of one role's table, and what is wrong with it."""
    rows, wrong = [], []
    for group, name in GROUPS.items():
        mine = {case: r for case, r in cases.items() if case.split(".")[0] == group}
        if len(mine) != SIZES[group]:
            wrong.append(f"{role}: {len(mine)} cases {group}.*, not {SIZES[group]}")
        informational = []
        for case in sorted(mine, key=number):
            columns = mine[case]["behavior"], mine[case]["behaviorClose"]
            if case in INFORMATIONAL and set(columns) <= {"OK", "INFORMATIONAL"}:
                if "INFORMATIONAL" in columns:
                    informational.append(case)
            elif columns != ("OK", "OK"):
                wrong.append(f"{role} {case}: behavior {columns[0]}, close {columns[1]}")
        fine = len(mine) - len(informational)
        rows.append((role, f"{group}.*", name, len(mine), fine, " ".join(informational) or "–"))
    if extra := sorted({case.split(".")[0] for case in cases} - set(GROUPS)):
        wrong.append(f"{role}: groups nobody knows: {' '.join(extra)}")
    return rows, wrong


def table(rows):
    lines = ["| role | cases | what | run | OK | informational |", "|---|---|---|--:|--:|---|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def commit():
    git = lambda *words: subprocess.run(
        ["git", "-C", ROOT, *words], check=True, capture_output=True, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.lock")
    return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")


def main(words):
    check = "--check" in words
    words = [word for word in words if word != "--check"]
    at = words.index("--") if "--" in words else len(words)
    reports, command = words[:at], " ".join(words[at + 1:])
    if not reports or not all(re.fullmatch(r"\w+=.+", report) for report in reports):
        sys.exit(__doc__)
    if not command and not check:
        sys.exit("behind -- stands the command that made the reports")
    rows, wrong = [], []
    roles = {}
    for report in reports:
        role, folder = report.split("=", 1)
        roles.setdefault(role, {}).update(read(folder))
    for role, cases in roles.items():
        found, faults = judge(role, cases)
        rows += found
        wrong += faults
    for fault in wrong:
        print(fault)
    if wrong:
        return 1
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    head, _, rest = page.partition(BEGIN)
    there, _, tail = rest.partition(END)
    if not head or not tail:
        print(f"{PAGE} has no section between {BEGIN.strip()} and {END}")
        return 1
    if check:
        if table(rows) in there:
            return 0
        print(f"{PAGE} does not say what these reports say")
        return 1
    run = sum(row[3] for row in rows)
    fine = sum(row[4] for row in rows)
    why = [f"- {case}: {reason}." for case, reason in INFORMATIONAL.items()]
    body = "\n".join([
        "",
        f"Commit {commit()}, {datetime.date.today().isoformat()}, by `{command}`.",
        f"{run} cases, {fine} OK, {run - fine} informational, none failed, none non-strict, none left out.",
        "",
        table(rows),
        "",
        "Informational, for everybody, since the RFC leaves the answer open:",
        *why,
        "",
        "",
    ])
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(head + BEGIN + body + END + tail)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
