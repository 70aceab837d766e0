"""Runs the command line as ``python -m adafocus``."""

from __future__ import annotations

import sys

from adafocus.cli.main import main

sys.exit(main())
