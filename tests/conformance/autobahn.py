#!/usr/bin/env python3
"""autobahn.py ROLE=REPORT... -- COMMAND...
Writes the section "Autobahn" of docs/conformance.md from the suite's reports: a table of groups, and
each case with its result.

autobahn.py --check ROLE=REPORT...
Writes nothing: the exit status says whether the section's cases are those of the reports.

autobahn.py --no-worse ROLE=REPORT...
Writes nothing: the exit status is 1 where a case's result is worse than the section says, or where
the section does not have the case; each such case is named. The reports may have any of the cases.
While the section is empty nothing can be compared: that is said, and the exit status is 0.

ROLE is what was tested (server, client), REPORT a folder with the suite's index.json (a role may
have several, each with a part of the cases), COMMAND how the reports were made, as a reader would
repeat it.

To be written every case must be there and OK in both columns, but for the three that are
informational for everybody; where one is not nothing is written, and the exit status is 1.
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


# From good to bad; whatever else the suite says is worse than these.
RANKS = ["OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED"]


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


def of_case(result):
    return f"{result['behavior']} / {result['behaviorClose']}"


def case_table(roles):
    """Each case of any role, with both columns of the suite's result."""
    lines = ["| case | " + " | ".join(roles) + " |", "|---" * (len(roles) + 1) + "|"]
    for case in sorted({case for cases in roles.values() for case in cases}, key=number):
        results = [of_case(cases[case]) if case in cases else "–" for cases in roles.values()]
        lines.append(f"| {case} | " + " | ".join(results) + " |")
    return "\n".join(lines)


def cases_of_page(section):
    """What case_table has written: role, then case, then both columns."""
    roles, found = [], {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "case":
            roles = cells[1:]
        elif roles and re.fullmatch(r"\d+(\.\d+)+", cells[0]):
            for role, result in zip(roles, cells[1:]):
                if " / " in result:
                    found.setdefault(role, {})[cells[0]] = tuple(result.split(" / "))
    return found


def rank(case, result):
    """Where it stands between good and bad. What the RFC leaves open is good either way."""
    if result == "INFORMATIONAL" and case in INFORMATIONAL:
        result = "OK"
    return RANKS.index(result) if result in RANKS else len(RANKS)


def no_worse(roles, section):
    page = cases_of_page(section)
    if not page:
        print("-- NOT COMPARED: docs/conformance.md has no results of Autobahn's cases yet")
        return 0
    wrong = 0
    for role, cases in roles.items():
        worse = []
        if not cases:
            worse.append(f"{role}: no case in its reports")
        for case in sorted(cases, key=number):
            there = page.get(role, {}).get(case)
            here = cases[case]["behavior"], cases[case]["behaviorClose"]
            if there is None:
                worse.append(f"{role} {case}: not in docs/conformance.md; now {' / '.join(here)}")
            elif any(rank(case, new) > rank(case, old) for new, old in zip(here, there)):
                was = " / ".join(there)
                worse.append(f"{role} {case}: {' / '.join(here)}, and docs/conformance.md says {was}")
        for line in worse:
            print(f"-- {line}")
        if not worse:
            print(f"-- {role}: {len(cases)} cases, none worse than docs/conformance.md says")
        wrong += len(worse)
    return 1 if wrong else 0


def commit():
    git = lambda *words: subprocess.run(
        ["git", "-C", ROOT, *words], check=True, capture_output=True, text=True).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.lock")
    return git("rev-parse", "--short=12", "HEAD") + (" with changes" if changed else "")


def section_of_page():
    """The page before the section, the section, and what is behind it."""
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    head, begin, rest = page.partition(BEGIN)
    section, end, tail = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{PAGE} has no section between {BEGIN.strip()} and {END}")
    return head, section, tail


def main(words):
    modes = [word for word in words if word in ("--check", "--no-worse")]
    words = [word for word in words if word not in modes]
    at = words.index("--") if "--" in words else len(words)
    reports, command = words[:at], " ".join(words[at + 1:])
    if len(modes) > 1 or not reports or not all(re.fullmatch(r"\w+=.+", r) for r in reports):
        sys.exit(__doc__)
    if not command and not modes:
        sys.exit("behind -- stands the command that made the reports")
    roles = {}
    for report in reports:
        role, folder = report.split("=", 1)
        roles.setdefault(role, {}).update(read(folder))
    head, section, tail = section_of_page()
    if modes == ["--no-worse"]:
        return no_worse(roles, section)
    rows, wrong = [], []
    for role, cases in roles.items():
        found, faults = judge(role, cases)
        rows += found
        wrong += faults
    for fault in wrong:
        print(fault)
    if wrong:
        return 1
    if modes == ["--check"]:
        if table(rows) in section and case_table(roles) in section:
            return 0
        print(f"{PAGE} does not say what these reports say")
        return 1
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(head + BEGIN + written(rows, roles, command) + END + tail)
    return 0


def written(rows, roles, command):
    """The section: what was run, the groups, what is informational, each case."""
    run = sum(row[3] for row in rows)
    fine = sum(row[4] for row in rows)
    why = [f"- {case}: {reason}." for case, reason in INFORMATIONAL.items()]
    return "\n".join([
        "",
        f"Commit {commit()}, {datetime.date.today().isoformat()}, by `{command}`.",
        f"{run} cases, {fine} OK, {run - fine} informational, none failed, none non-strict, none left out.",
        "",
        table(rows),
        "",
        "Informational, for everybody, since the RFC leaves the answer open:",
        *why,
        "",
        "Each case, by the suite's two columns: behavior / close.",
        "",
        case_table(roles),
        "",
        "",
    ])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
