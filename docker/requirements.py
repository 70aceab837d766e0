"""What to install for some extras, one requirement per line: the dependencies without the code that needs them.

usage: requirements.py EXTRA... (reads pyproject.toml in the current folder)

An image installs these in a layer of their own, which stays as it is while only code changes. Standard library only.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """The dependencies and those of the extras, in the order in which they are written, none twice.

    Raises:
        KeyError: there is no such extra.
    """
    project = tomllib.loads(pyproject)["project"]
    optional = project["optional-dependencies"]
    found = list(project["dependencies"])
    for extra in extras:
        found += optional[extra]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    text = Path("pyproject.toml").read_text(encoding="utf-8")
    sys.stdout.writelines(f"{line}\n" for line in requirements(text, sys.argv[1:]))
