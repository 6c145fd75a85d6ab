"""Prints docs/values.md: one row for each documented key of the chart's values.yaml.

A key is documented by `# -- …` lines right above it. A key that has children of its own and no such line is only a
heading. Every other key must have one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

VALUES = Path(__file__).parent / "leasehold" / "values.yaml"
KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")


def documented(text: str) -> Iterator[tuple[str, str]]:
    """(dotted path, description) of each documented key, in the file's order."""
    path: list[str] = []
    description: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            description = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#") and description:
            description.append(stripped.removeprefix("#").strip())
        elif found := KEY.match(line):
            path[len(found["indent"]) // 2 :] = [found["key"]]
            if description:
                yield ".".join(path), " ".join(description)
            description = []


def leaves(value: Any, path: str, known: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """(dotted path, default) of each key that is documented, or has no children."""
    if path not in known and isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, f"{path}.{key}" if path else key, known)
    else:
        yield path, value


def main() -> int:
    """Prints the table; fails and names the keys that nobody described."""
    text = VALUES.read_text()
    known = dict(documented(text))
    rows = list(leaves(yaml.safe_load(text), "", known))
    if missing := [path for path, _ in rows if path not in known]:
        print(f"values.yaml says nothing of {', '.join(missing)}: write a `# -- …` line above each", file=sys.stderr)
        return 1
    print("# Values of the chart\n")
    print("Made from the comments of `helm/leasehold/values.yaml` by `make values-table`.\n")
    print("| key | default | what it is |\n|---|---|---|")
    for path, default in rows:
        shown = json.dumps(default).replace("|", "\\|")
        print(f"| `{path}` | `{shown}` | {known[path]} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
