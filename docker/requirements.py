"""Prints the locked requirements of some extras: every package with its version and its hashes, each once.

usage: requirements.py EXTRA[,EXTRA...] (reads locked/ beside this file, which docker/lock.py writes)

``base.txt`` has what the project always needs, and the list of an extra what comes on top of it. An
image installs them in a separate layer, which is not rebuilt when only code changes. Standard library only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOCKED = Path(__file__).resolve().parent / "locked"

BASE = "base"
BUILD = "build"
"""What building the project needs, which is no extra and needs nothing of the base."""

_ENTRY = re.compile(r"^(?=[A-Za-z0-9])", flags=re.MULTILINE)


def entries(text: str) -> dict[str, str]:
    """The entries of a list by the name of their package: version, condition and hashes, as they stand there."""
    found = filter(str.strip, _ENTRY.split(text))
    return {re.split(r"[ =;\[]", entry, maxsplit=1)[0].lower(): entry for entry in found}


def merge(lists: list[str]) -> str:
    """One list of several, without duplicates, in alphabetical order.

    Raises:
        ValueError: two lists want different versions or files of a package.
    """
    merged: dict[str, str] = {}
    for text in lists:
        for name, entry in entries(text).items():
            if merged.setdefault(name, entry) != entry:
                raise ValueError(f"the lists differ in {name}; run docker/lock.py")
    return "".join(merged[name] for name in sorted(merged))


def main(arguments: list[str]) -> int:
    """Print the merged list; 1 if there is no such list, or if two do not agree."""
    wanted = [name for argument in arguments for name in argument.split(",") if name]
    available = sorted({path.stem for path in LOCKED.glob("*.txt")} - {BASE})
    unknown = [name for name in wanted if name not in available]
    if unknown:
        print(f"{unknown[0]!r} is not an extra for images; there are {', '.join(available)}", file=sys.stderr)
        return 1
    names = wanted if wanted == [BUILD] else [BASE, *wanted]
    try:
        sys.stdout.write(merge([(LOCKED / f"{name}.txt").read_text(encoding="utf-8") for name in names]))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
