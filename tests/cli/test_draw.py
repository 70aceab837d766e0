"""The contact sheet of `adafocus classify --draw`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adafocus.cli import contact_sheet
from adafocus.cli.drawing import draw_sheet
from adafocus.cli.main import main
from tests.e2e.tiny import write_clip, write_parts, write_tiny_bundle

PATCH, STOP = (240, 160, 32), (29, 122, 76)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAFOCUS_DECODE_WORKERS", "1")
    folder = tmp_path / "clips"
    folder.mkdir()
    write_clip(folder / "a.mp4", "bright")
    write_clip(folder / "b.mp4", "dark")
    return folder


def classify(bundle: Path, *arguments: object) -> int:
    return main(["classify", "--bundle", str(bundle), *(str(argument) for argument in arguments)])


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(axis=2).sum())


def test_one_part_for_each_video_with_its_frames_and_patches(bundle: Path, clips: Path, tmp_path: Path) -> None:
    assert classify(bundle, clips, "--draw", tmp_path / "two.png", "--exit", "full") == 0
    assert classify(bundle, clips / "a.mp4", "--draw", tmp_path / "one.png", "--exit", "full") == 0
    two, one = pixels(tmp_path / "two.png"), pixels(tmp_path / "one.png")
    assert two.shape[0] > 1.6 * one.shape[0]
    assert two.shape[1] == one.shape[1]
    assert count(one, (225, 225, 225)) > 4 * 80 * 80, "four bright frames"
    assert count(one, PATCH) > 0
    assert count(two, (30, 30, 30)) + count(two, (31, 31, 31)) > 4 * 80 * 80, "four dark frames below them"


def test_an_early_exit_leaves_frames_out_and_is_marked(bundle: Path, clips: Path, tmp_path: Path) -> None:
    for point in ("fast", "full"):
        assert classify(bundle, clips / "a.mp4", "--draw", tmp_path / f"{point}.png", "--exit", point) == 0
    fast, full = (pixels(tmp_path / f"{point}.png") for point in ("fast", "full"))
    assert fast.shape == full.shape
    assert 0 < count(fast, PATCH) < count(full, PATCH)
    assert count(fast, STOP) > 0


def test_nothing_is_left_behind_but_the_sheet(bundle: Path, clips: Path, tmp_path: Path) -> None:
    classify(bundle, clips / "a.mp4", "--draw", tmp_path / "sheet.png")
    assert {path.name for path in tmp_path.iterdir()} == {"clips", "sheet.png"}
    assert classify(bundle, bundle / "manifest.json", "--draw", tmp_path / "none.png") == 1
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize(
    ("sheet", "code", "hint"),
    [
        ("sheet.bmp", 2, ".png"),
        ("nowhere/sheet.png", 1, "does not exist"),
        ("sheet", 2, ".png"),
        ("folder.png", 1, "choose a file"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_the_work(
    bundle: Path, clips: Path, tmp_path: Path, sheet: str, code: int, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.png").mkdir()
    assert classify(bundle, clips, "--draw", tmp_path / sheet) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert hint in captured.err


def test_too_many_videos(
    bundle: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contact_sheet, "MOST_VIDEOS", 1)
    assert classify(bundle, clips, "--draw", tmp_path / "sheet.png") == 2
    assert "at most 1 videos" in capsys.readouterr().err


def test_without_pillow_it_says_what_brings_it(
    bundle: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(contact_sheet, "find_spec", lambda _: None)
    assert classify(bundle, clips, "--draw", tmp_path / "sheet.png") == 1
    assert "adafocus[draw]" in capsys.readouterr().err


def test_an_empty_sheet_is_a_sheet(bundle: Path) -> None:
    from adafocus.bundle.store import load_bundle

    assert draw_sheet(load_bundle(bundle).manifest, []).width >= 720


def test_a_video_in_windows_is_a_time_line_coloured_by_label(bundle: Path, tmp_path: Path) -> None:
    video = write_parts(tmp_path / "long.mp4", [("dark", 6.0), ("bright", 2.0)])
    assert classify(bundle, video, "--window", "1", "--draw", tmp_path / "line.png", "--exit", "full") == 0
    picture = pixels(tmp_path / "line.png")
    dark, bright = (47, 109, 181), (209, 118, 63)
    assert count(picture, dark) > 2.5 * count(picture, bright) > 0
    places = {
        name: np.flatnonzero((picture == colour).all(axis=2).any(axis=0))
        for name, colour in (("dark", dark), ("bright", bright))
    }
    assert places["dark"].min() < 40, "from the start"
    assert places["bright"].max() > picture.shape[1] - 40, "to the end"
