"""Checks the documents against the repository: tests that the README names exist, and so does what is linked to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROMISE = re.compile(r"^\| .* \| `(\w+)` \|$", re.MULTILINE)
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
    for document in tracked("*.md"):
        for target in LINK.findall(document.read_text()):
            if not (document.parent / target).exists():
                wrong.append(f"{document.relative_to(ROOT)}: {target} does not exist")
    print("\n".join(wrong) or f"{len(promises)} promises have their tests, every link leads somewhere")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
