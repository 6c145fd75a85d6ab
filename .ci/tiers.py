"""Runs make targets one after the other and adds up what their test runners said.

    tiers.py lint unit chart …

A tier that fails does not keep the next from running. What could not run says so in a line that begins with `SKIPPED`;
it is repeated at the end, and so are the names of tests that failed. The last line is `N passed, N failed`, as
the runners counted, unless something failed that none of them counted.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass, field

CARGO = re.compile(r"^test result: \w+\. (?P<passed>\d+) passed; (?P<failed>\d+) failed; (?P<ignored>\d+) ignored;")
PYTEST = re.compile(r"^=* ?(?P<counts>\d+ [a-z]+(?:, \d+ [a-z]+)*) in [\d.]+s(?: \([\d:]+\))? ?=*$")
BROKEN = re.compile(r"^(?:test (?P<cargo>.+) \.\.\. FAILED|(?:FAILED|ERROR) (?P<pytest>\S+::.*))$")
SKIPPED = re.compile(r"^SKIPPED\b")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Tier:
    """One make target and what it came to. Skipped as a whole if it says `SKIPPED: <its name>: …`."""

    name: str
    passed: int = 0
    failed: int = 0
    status: int = 0
    seconds: float = 0
    skipped: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Takes in one line of a runner's output."""
        line = COLOURS.sub("", line).strip()
        if found := CARGO.match(line):
            self.passed += int(found["passed"])
            self.failed += int(found["failed"])
        elif found := PYTEST.match(line):
            for count, word in re.findall(r"(\d+) (passed|failed|errors?)\b", found["counts"]):
                if word == "passed":
                    self.passed += int(count)
                else:
                    self.failed += int(count)
        elif found := BROKEN.match(line):
            self.broken.append(found["cargo"] or found["pytest"])
        elif SKIPPED.match(line):
            self.skipped.append(line)

    def run(self) -> None:
        """Runs the target, passing its output on."""
        started = time.monotonic()
        with subprocess.Popen(
            ["make", "--no-print-directory", self.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                self.read(line)
        self.status = process.returncode
        self.seconds = time.monotonic() - started

    @property
    def verdict(self) -> str:
        """What the summary says of it."""
        if self.status:
            return "FAILED"
        return "SKIPPED" if any(line.startswith(f"SKIPPED: {self.name}:") for line in self.skipped) else "ok"


def main(names: list[str]) -> int:
    """Runs the tiers and prints the summary."""
    tiers = [Tier(name) for name in names]
    for tier in tiers:
        print(f"\n=== {tier.name}", flush=True)
        tier.run()

    print("\n=== summary")
    for tier in tiers:
        counted = f"{tier.passed} passed, {tier.failed} failed" if tier.passed or tier.failed else ""
        print(f"{tier.name:<16} {tier.verdict:<8} {tier.seconds:>6.0f} s  {counted}".rstrip())
        for line in [*tier.skipped, *(f"failed: {name}" for name in tier.broken)]:
            print(f"    {line}")
    uncounted = [tier.name for tier in tiers if tier.status and not tier.failed]
    if uncounted:
        print(f"FAILED without a test that says so: {', '.join(uncounted)}")
    else:
        print(f"{sum(tier.passed for tier in tiers)} passed, {sum(tier.failed for tier in tiers)} failed")
    return 1 if any(tier.status for tier in tiers) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
