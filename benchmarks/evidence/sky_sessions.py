"""Sources of the clips of ``sky`` that a fold may not divide: a background, or two that are probably one session."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

SHARED_NUMBERS = 3
"""A visible and an infrared group with so many clip numbers of one class in common count as one session."""


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
