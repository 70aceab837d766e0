"""Sources of the clips of ``sky`` that a fold may not divide: a background, or two that are probably one session.

    python -m benchmarks.evidence.sky_sessions DATA OUT

makes a data set of links to the clips of DATA whose groups are sessions, for ``adafocus train --holdout 0.2 --fold N``.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHARED_NUMBERS = 3
"""A visible and an infrared group with so many clip numbers of one class in common count as one session."""

ORIGIN = {
    "name": "sky",
    "source": "github.com/DroneDetectionThesis/Drone-detection-dataset, commit 442d0c67",
    "licence": "CC0-1.0",
}
"""What a bundle says of its data."""


def sessions(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the name of each clip's session, given the items of the data set's manifest."""
    numbers: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    sensors = {}
    for item in items:
        found = re.search(r"_(\d+)\.", item["file"])
        assert found is not None  # noqa: S101 # every name of the data set ends so
        numbers[item["group"]][item["label"]].add(int(found[1]))
        sensors[item["group"]] = item["sensor"]
    parent = {group: group for group in numbers}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    for visible in sorted(group for group in numbers if sensors[group] == "visible"):
        for infrared in sorted(group for group in numbers if sensors[group] == "infrared"):
            both = (numbers[visible][label] & numbers[infrared][label] for label in numbers[visible])
            if any(len(shared) >= SHARED_NUMBERS for shared in both):
                parent[root(visible)] = root(infrared)
    return [root(item["group"]) for item in items]


def write(data: Path, out: Path) -> None:
    """Link the clips and boxes of a data set into a folder, with a manifest whose groups are sessions."""
    manifest = json.loads((data / "manifest.json").read_text())
    items = manifest["items"]
    manifest |= ORIGIN
    manifest["items"] = [item | {"group": name} for item, name in zip(items, sessions(items), strict=True)]
    out.mkdir(parents=True, exist_ok=True)
    for name in {Path(item["file"]).parts[0] for item in items} | {"boxes.npz"}:
        (out / name).symlink_to((data / name).resolve())
    (out / "manifest.json").write_text(json.dumps(manifest))


def main() -> None:
    """Write the data set whose groups are sessions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    write(given.data, given.out)


if __name__ == "__main__":
    main()
