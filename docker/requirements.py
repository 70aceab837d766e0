"""Prints the requirements of some extras, one per line, without the project itself.

usage: requirements.py EXTRA[,EXTRA...] (reads pyproject.toml in the current folder)

An image installs them in a separate layer, which is not rebuilt when only code changes. Standard library only.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

_OWN = re.compile(r"adafocus\[([\w, -]+)\]")


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """The dependencies of the project and of the extras, in the order of the file, without duplicates.

    Raises:
        KeyError: there is no such extra.
    """
    project = tomllib.loads(pyproject)["project"]
    found: list[str] = list(project["dependencies"])
    for extra in extras:
        found += _of(project["optional-dependencies"], extra)
    return list(dict.fromkeys(found))


def _of(optional: dict[str, list[str]], extra: str) -> list[str]:
    """The requirements of an extra, including those of the project's own extras that it names."""
    found: list[str] = []
    for requirement in optional[extra]:
        own = _OWN.fullmatch(requirement)
        found += [line for name in own[1].split(",") for line in _of(optional, name.strip())] if own else [requirement]
    return found


if __name__ == "__main__":
    text = Path("pyproject.toml").read_text(encoding="utf-8")
    wanted = [name for argument in sys.argv[1:] for name in argument.split(",") if name]
    sys.stdout.writelines(f"{line}\n" for line in requirements(text, wanted))
