"""Sessions of the clips of ``sky``: groups of one background, and of both sensors if they share clip numbers."""

import json
from pathlib import Path

from benchmarks.evidence.sky_sessions import sessions, write


def item(sensor: str, number: int, group: str, label: str = "drone") -> dict[str, str]:
    return {"file": f"{label}/{sensor}_{number:03}.mp4", "label": label, "group": group, "sensor": sensor}


def test_groups_of_both_sensors_with_three_numbers_in_common_are_one_session() -> None:
    both = [item(sensor, number, sensor[0]) for sensor in ("visible", "infrared") for number in (1, 2, 3)]
    assert len(set(sessions(both))) == 1
    assert len(set(sessions(both[:-1]))) == 2  # two numbers may be chance
    other_class = [item("infrared", number, "i", "bird") for number in (1, 2, 3)]
    assert len(set(sessions(both[:3] + other_class))) == 2


def test_a_data_set_whose_groups_are_sessions_links_the_clips(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    items = [item(sensor, number, sensor[0]) for sensor in ("visible", "infrared") for number in (1, 2, 3)]
    for row in items:
        (data / row["file"]).parent.mkdir(parents=True, exist_ok=True)
        (data / row["file"]).write_bytes(b"clip")
    (data / "boxes.npz").write_bytes(b"boxes")
    (data / "manifest.json").write_text(json.dumps({"items": items, "boxes": "boxes.npz"}))
    write(data, out)
    made = json.loads((out / "manifest.json").read_text())
    assert made["boxes"] == "boxes.npz"
    assert len({row["group"] for row in made["items"]}) == 1
    assert all((out / row["file"]).read_bytes() == b"clip" for row in made["items"])
    assert (out / "boxes.npz").read_bytes() == b"boxes"
