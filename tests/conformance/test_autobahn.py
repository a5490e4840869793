#!/usr/bin/env python3
"""What autobahn.py promises, by reports and a page made up here: python3 test_autobahn.py"""
import contextlib
import io
import json
import os
import sys
import tempfile
import unittest

# Nothing is left beside the script.
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import autobahn

EMPTY = f"# Page\n\n{autobahn.BEGIN}{autobahn.END}\n\nbehind\n"


def all_cases():
    """All 517 as they should be; how the suite numbers them within a group does not matter."""
    cases = {f"{group}.1.{n}" for group, size in autobahn.SIZES.items() for n in range(1, size + 1)}
    # Of group 7 two are 7.13.1 and 7.13.2.
    cases = cases - {"7.1.36", "7.1.37"} | set(autobahn.INFORMATIONAL)
    results = {case: {"behavior": "OK", "behaviorClose": "OK"} for case in cases}
    for case in autobahn.INFORMATIONAL:
        results[case]["behaviorClose"] = "INFORMATIONAL"
    return results


class Autobahn(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.addCleanup(setattr, autobahn, "PAGE", autobahn.PAGE)
        autobahn.PAGE = os.path.join(self.folder.name, "page.md")
        self.page(EMPTY)

    def page(self, text=None):
        if text is not None:
            with open(autobahn.PAGE, "w", encoding="utf-8") as file:
                file.write(text)
        with open(autobahn.PAGE, encoding="utf-8") as file:
            return file.read()

    def report(self, name, cases):
        folder = os.path.join(self.folder.name, name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "index.json"), "w") as file:
            json.dump({"workerman": cases}, file)
        return folder

    def run_it(self, *words):
        """The exit status and what was printed."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = autobahn.main(list(words))
        return status, out.getvalue()

    def fill(self):
        cases = all_cases()
        server, client = self.report("server", cases), self.report("client", cases)
        status, out = self.run_it(f"server={server}", f"client={client}", "--", "a command")
        self.assertEqual((status, out), (0, ""))
        return cases

    def no_worse(self, role, cases):
        return self.run_it("--no-worse", f"{role}={self.report('now', cases)}")

    def test_the_section_has_the_groups_and_each_case(self):
        cases = self.fill()
        self.assertEqual(len(cases), 517)
        page = self.page()
        self.assertTrue(page.startswith("# Page\n") and page.endswith("behind\n"))
        self.assertIn("1034 cases, 1028 OK, 6 informational", page)
        self.assertIn("| server | 9.* | limits and performance | 54 | 54 | – |", page)
        rows = [line for line in page.splitlines() if " | OK / " in line]
        self.assertEqual(len(rows), 517)
        self.assertIn("| 7.1.6 | OK / INFORMATIONAL | OK / INFORMATIONAL |", rows)
        numbers = [autobahn.number(row.split("|")[1].strip()) for row in rows]
        self.assertEqual(numbers, sorted(numbers))

    def test_check_knows_another_case_by_its_result(self):
        cases = self.fill()
        report = lambda: [f"{role}={self.report(role, cases)}" for role in ("server", "client")]
        self.assertEqual(self.run_it("--check", *report())[0], 0)
        cases["7.1.6"]["behaviorClose"] = "OK"
        self.assertEqual(self.run_it("--check", *report())[0], 1)

    def test_nothing_is_written_where_a_case_failed_or_is_missing(self):
        cases = all_cases()
        cases["9.1.3"]["behavior"] = "FAILED"
        status, out = self.run_it(f"server={self.report('bad', cases)}", "--", "a command")
        self.assertEqual(status, 1)
        self.assertIn("server 9.1.3: behavior FAILED", out)
        del cases["9.1.3"]
        status, out = self.run_it(f"server={self.report('bad', cases)}", "--", "a command")
        self.assertEqual(status, 1)
        self.assertIn("53 cases 9.*, not 54", out)
        self.assertEqual(self.page(), EMPTY)

    def test_no_worse_passes_any_part_that_is_as_good(self):
        cases = self.fill()
        part = {case: cases[case] for case in ("1.1.1", "9.1.2", "7.13.1")}
        for role in ("server", "client"):
            status, out = self.no_worse(role, part)
            self.assertEqual((status, f"-- {role}: 3 cases, none worse" in out), (0, True), out)
        # What the RFC leaves open may come out either way.
        for result in ("OK", "INFORMATIONAL"):
            part["7.13.1"] = {"behavior": result, "behaviorClose": result}
            self.assertEqual(self.no_worse("server", part)[0], 0)

    def test_no_worse_names_each_case_that_is_worse_in_either_column(self):
        self.fill()
        good = {"behavior": "OK", "behaviorClose": "OK"}
        for column in ("behavior", "behaviorClose"):
            for bad in ("FAILED", "NON-STRICT", "UNIMPLEMENTED", "INFORMATIONAL", "WRONG CODE"):
                cases = {"1.1.1": good, "6.1.4": {**good, column: bad}, "2.1.1": {**good, column: bad}}
                status, out = self.no_worse("client", cases)
                self.assertEqual(status, 1, (column, bad))
                self.assertIn("client 6.1.4:", out)
                self.assertIn("client 2.1.1:", out)
                self.assertNotIn("1.1.1:", out.replace("2.1.1:", ""))

    def test_no_worse_passes_what_has_become_better(self):
        self.fill()
        page = self.page()
        self.page(page.replace("| 6.1.4 | OK / OK | OK / OK |", "| 6.1.4 | NON-STRICT / OK | OK / OK |"))
        self.assertNotEqual(self.page(), page)
        result = {"behavior": "NON-STRICT", "behaviorClose": "OK"}
        self.assertEqual(self.no_worse("server", {"6.1.4": result})[0], 0)
        self.assertEqual(self.no_worse("client", {"6.1.4": result})[0], 1)
        result["behavior"] = "OK"
        self.assertEqual(self.no_worse("server", {"6.1.4": result})[0], 0)

    def test_no_worse_names_a_case_or_a_role_that_is_not_on_the_page(self):
        self.fill()
        good = {"behavior": "OK", "behaviorClose": "OK"}
        status, out = self.no_worse("server", {"1.1.1": good, "14.1.1": good})
        self.assertEqual((status, "server 14.1.1: not in" in out), (1, True), out)
        status, out = self.no_worse("proxy", {"1.1.1": good})
        self.assertEqual((status, "proxy 1.1.1: not in" in out), (1, True), out)
        status, out = self.no_worse("server", {})
        self.assertEqual((status, "no case" in out), (1, True), out)

    def test_no_worse_says_aloud_that_an_empty_section_compares_nothing(self):
        status, out = self.no_worse("server", {"1.1.1": {"behavior": "FAILED", "behaviorClose": "OK"}})
        self.assertEqual((status, out.startswith("-- NOT COMPARED")), (0, True), out)

    def test_a_page_without_the_section_and_a_report_that_is_none_end_it(self):
        report = self.report("now", {})
        self.page("# Page\n")
        with self.assertRaises(SystemExit):
            self.run_it("--no-worse", f"server={report}")
        self.page(EMPTY)
        with self.assertRaises(OSError):
            self.run_it("--no-worse", f"server={self.folder.name}")


if __name__ == "__main__":
    unittest.main()
