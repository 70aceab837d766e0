"""Files with the faults that `tests/video/test_faults.py` explains, over HTTP and through ``adafocus classify``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adafocus.cli.main import main
from adafocus.service.schemas.classify import Classification
from tests import tolerances
from tests.service.server import make_settings, serving
from tests.video.clips import FIXTURES, make_clip
from tests.video.defects import joined, remux, shifted, with_display_matrix, with_equal_times, with_streams

STEPS = 4


def clip(**options: str) -> bytes:
    return make_clip(60, codec="libx264", **{"g": "12", **options})


def restarted(container: str) -> bytes:
    return joined([remux(clip(), container, shifted(start)) for start in (5, 5.013)], container)


FILES: dict[str, tuple[Callable[[], bytes], int, float]] = {
    "clock that restarts": (lambda: restarted("mpegts"), 120, 4.8),
    "clock that restarts in FLV": (lambda: restarted("flv"), 120, 4.8),
    "clock that leaps": (lambda: remux(clip(), "mpegts", shifted(7200, 30)), 60, 2.4),
    "field pairs": (lambda: (FIXTURES / "field_pairs.ts").read_bytes(), 40, 1.6),
    "mirrored": (lambda: with_display_matrix(clip(), (-1, 0, 0, 1)), 60, 2.4),
    "equal times": (lambda: remux(clip(bf="0"), "matroska", with_equal_times((30, 31))), 60, 2.4),
    "gradual refresh": (lambda: clip(bf="0", g="20", **{"intra-refresh": "1"}), 60, 2.4),
    "silent first stream": (lambda: with_streams([clip(), clip()], [False, True], "mpegts"), 60, 2.4),
    "5K with ten bits": (lambda: (FIXTURES / "hevc_5k_10bit.mp4").read_bytes(), 15, 0.5),
    "packed stream": (lambda: (FIXTURES / "divx_packed.avi").read_bytes(), 60, 2.4),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("faults")
    paths = {name: folder / f"{name}.bin" for name in FILES}
    for name, path in paths.items():
        path.write_bytes(FILES[name][0]())
    return paths


def check(name: str, answer: Classification) -> None:
    _, frames, seconds = FILES[name]
    assert answer.video.frames == frames, name
    assert answer.video.duration_s == pytest.approx(seconds, abs=tolerances.DAMAGED_TIME_S), name
    assert answer.exit.reason == "all_steps", name
    assert answer.trace is not None
    tick = frames / STEPS
    assert sorted(step.frame for step in answer.trace) == [int(tick / 2 + tick * i) for i in range(STEPS)], name
    for step in answer.trace:
        assert step.time_s == pytest.approx(step.frame * seconds / frames, abs=tolerances.DAMAGED_TIME_S + 0.01), name


async def test_over_http(files: dict[str, Path], tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path)) as running, running.client() as client:
        for name, path in files.items():
            answer = await client.post("/classify?exit=full&trace=true", content=path.read_bytes())
            assert answer.status_code == 200, (name, answer.text)
            check(name, Classification.model_validate(answer.json()))


def test_on_the_command_line(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ADAFOCUS_DECODE_WORKERS", "1")
    bundle = make_settings(tmp_path).bundle
    paths = [str(path) for path in files.values()]
    assert main(["classify", "--bundle", str(bundle), "--json", "--trace", "--exit", "full", *paths]) == 0
    names = {str(path): name for name, path in files.items()}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["file"] for line in lines} == set(paths)
    for line in lines:
        name = names[line.pop("file")]
        check(name, Classification.model_validate(line))
