"""What every result carries: the machine it was measured on, and the day."""

from __future__ import annotations

import csv
import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.cores import usable_cores

RESULTS = Path(__file__).resolve().parent / "results"


def processor() -> str:
    """The processor's name, as it gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else "unknown"


def machine_name() -> str:
    """Processor model and usable cores, as one word: ``amd-epyc-2c``."""
    words = re.sub(r"\(.*?\)|CPU|Processor|@.*", " ", processor())
    return "-".join([*re.findall(r"[A-Za-z0-9]+", words.lower()), f"{usable_cores()}c"])


def write_results(benchmark: str, variant: str, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write ``<benchmark>_<machine>_<variant>_<date>.csv`` and return its path; the first row names the columns."""
    RESULTS.mkdir(exist_ok=True)
    day = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    path = RESULTS / f"{benchmark}_{machine_name()}_{variant}_{day}.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def newest_results(benchmark: str, variant: str = "*") -> list[dict[str, str]]:
    """The rows of the newest CSV of a benchmark, or of one variant of it.

    Raises:
        FileNotFoundError: it has none.
    """
    paths = sorted(RESULTS.glob(f"{benchmark}_*_{variant}_*.csv"), key=lambda path: path.stem.rsplit("_", 1)[-1])
    if not paths:
        raise FileNotFoundError(f"no results of {benchmark}; run python -m benchmarks.{benchmark}")
    with paths[-1].open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
