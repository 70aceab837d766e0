"""Builds the dashboards as JSON. `python docker/grafana/build.py` writes them into the folder next to this file.

A test compares that folder with the output of this module, so edit the module and not the folder.
"""

from __future__ import annotations

import json
from pathlib import Path

from board_compute import COMPUTE
from board_gpu import GPU
from board_service import SERVICE
from panels import Json

FOLDER = Path(__file__).resolve().parent / "dashboards"

DASHBOARDS: dict[str, Json] = {"compute.json": COMPUTE, "service.json": SERVICE, "gpu.json": GPU}


def text(board: Json) -> str:
    """The content of a dashboard's JSON file."""
    return json.dumps(board, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, board in DASHBOARDS.items():
        (FOLDER / name).write_text(text(board), encoding="utf-8")
