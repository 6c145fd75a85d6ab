"""Checks the documents: tests that they name exist and say which row they hold, and every link leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROMISE = re.compile(r"^\| .* \| `(\w+)` \|$", re.MULTILINE)
BOUNDARY = re.compile(r"^\| (T\d+) \| .* \| (.*) \|$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://)([^)#]+)")


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository, new ones included."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    output = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in output.splitlines() if (ROOT / line).is_file()]


def main() -> int:
    """Prints what is wrong, one line each."""
    wrong = []
    code = "\n".join(path.read_text() for path in tracked("*.rs", "*.py", "*.ts"))
    promises = PROMISE.findall((ROOT / "README.md").read_text())
    if not promises:
        wrong.append("README.md: no promise is found; has the table changed its form?")
    for name in promises:
        if not re.search(rf"\b(?:fn|def) {name}\b", code):
            wrong.append(f"README.md: no test is called {name}")
    boundaries = [
        (row, name)
        for row, tests in BOUNDARY.findall((ROOT / "docs/security/model.md").read_text())
        for name in re.findall(r"`(\w+)`", tests)
    ]
    if not boundaries:
        wrong.append("docs/security/model.md: no row with a test is found; has the table changed its form?")
    for row, name in boundaries:
        # In the lines right above the function.
        above = rf"((?:^[ \t]*(?:///?|[#@]).*\n)*)^[ \t]*(?:pub )?(?:async )?(?:fn|def) {name}\b"
        if not any(re.search(rf"\b{row}\b", lines) for lines in re.findall(above, code, re.MULTILINE)):
            wrong.append(f"docs/security/model.md: no test {name} says that it holds {row}")
    for document in tracked("*.md"):
        for target in LINK.findall(document.read_text()):
            if not (document.parent / target).exists():
                wrong.append(f"{document.relative_to(ROOT)}: {target} does not exist")
    right = f"{len(promises)} promises and {len(boundaries)} boundaries have their tests, every link leads somewhere"
    print("\n".join(wrong) or right)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
