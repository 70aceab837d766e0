"""Write the named clips into a folder: ``python -m tests.media FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.media.named import write_named

if __name__ == "__main__":
    write_named(Path(sys.argv[1]))
