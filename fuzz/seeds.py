"""Writes the seeds of the target `messages`: what real peers said, from the shim's recorded transcripts.

Usage: seeds.py <transcripts> <directory>
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# Messages of a seed beside the two with which a stream begins.
STRETCH = 32


def delimited(message: bytes) -> bytes:
    """A message with its length before it, as a varint."""
    length, prefix = len(message), bytearray()
    while length >= 0x80:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + message


def main(transcripts: Path, directory: Path) -> None:
    """Writes a seed for each stretch of each transcript. The first byte, even, says that recorded messages follow."""
    directory.mkdir(parents=True, exist_ok=True)
    for transcript in sorted(transcripts.glob("*.json")):
        lines = json.loads(transcript.read_text())["lines"]
        said = [delimited(bytes.fromhex(line["message"])) for line in lines if line["from"] == "peer"]
        opening, rest = said[:2], said[2:]
        for number, start in enumerate(range(0, len(rest), STRETCH)):
            seed = b"\0" + b"".join(opening + rest[start : start + STRETCH])
            (directory / f"{transcript.stem}-{number}").write_bytes(seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
