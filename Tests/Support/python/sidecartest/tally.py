"""Counts what was tried: each check is one line, and the last line of a part is its count, which scripts/test reads."""

import re
import subprocess
import sys


class Tally:
    """Checks passed, failed, and skipped with a reason."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def ok(self, what):
        self.passed += 1
        print(f"ok   {what}", flush=True)

    def bad(self, what, output=""):
        self.failed += 1
        end = "".join(f"\n       {line}" for line in output.splitlines()[-15:])
        print(f"FAIL {what}{end}", flush=True)

    def skip(self, what):
        self.skipped += 1
        print(f"skip {what}", flush=True)

    def check(self, what, holds, detail="", otherwise=None):
        """Whether it holds; `otherwise` is what is said when it does not."""
        detail = f" ({detail})" if detail != "" else ""
        if holds:
            self.ok(f"{what}{detail}")
        else:
            self.bad(otherwise or f"{what}{detail}")
        return bool(holds)

    def attempt(self, what, *command, **options):
        """Whether a command ends with 0."""
        good, output = said(*command, **options)
        if good:
            self.ok(what)
        else:
            self.bad(what, output)
        return good

    def refuse(self, what, pattern, *command, **options):
        """Whether a command fails and says what fits the pattern."""
        good, output = said(*command, **options)
        if good:
            self.bad(f"{what}: accepted")
        elif re.search(pattern, output):
            self.ok(what)
        else:
            self.bad(f"{what}: refused, but without /{pattern}/", output)

    def finish(self, name):
        print(f"{name}: {self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        sys.exit(self.failed > 0)


def said(*command, **options):
    """Whether a command ended with 0, and what it printed."""
    done = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", check=False, **options)
    return done.returncode == 0, done.stdout
