"""The tables of docs/batch.md, from the newest results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import newest_results


def killed_batch() -> str:
    """How often the command was killed, and which rows were lost or there twice."""
    head = "| results | inputs | kills | rows | of them errors | lost | twice |\n|---|---|---|---|---|---|---|"
    lines = [
        f"| `{row['format']}` | {row['inputs']} | {row['kills']} | {row['rows']} | {row['error_rows']} "
        f"| {row['rows_lost']} | {row['rows_twice']} |"
        for row in newest_results("killed-batch")
    ]
    return "\n".join([head, *lines])


PAGES: dict[Path, dict[str, Callable[[], str]]] = {Path("docs/batch.md"): {"killed_batch": killed_batch}}
