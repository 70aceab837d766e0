"""The space that clips need is reported before anything is decoded, and what cannot fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adafocus.training.data import capacity, storage
from adafocus.training.data.capacity import bytes_of_clip, free_memory, in_words
from adafocus.training.data.clips import ClipSet
from adafocus.training.data.crop_plan import serving_plan, training_plan
from adafocus.training.data.crops import decode_all
from adafocus.training.data.manifests import list_clips
from adafocus.training.data.storage import Sets, plan_storage
from adafocus.training.errors import DataError
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.train import train

Make = Callable[..., Recipe]
GIB = 2**30


def sets_of(data: ClipSet) -> Sets:
    return Sets(data.only(data.clips[:8]), data.only(data.clips[8:]), None)


def plenty() -> int:
    return 1000 * GIB


def test_raw_pixels_are_counted_exactly_and_jpeg_takes_less(clip_folder: Path, tiny_recipe: Make) -> None:
    data = list_clips(clip_folder)
    raw = training_plan(tiny_recipe(data={"resize": 32, "candidates": 2, "jpeg_quality": 0}))
    kept = decode_all(data, raw).pixels
    assert bytes_of_clip(raw) == np.asarray(kept[0]).nbytes == 4 * 32 * 32 * 3
    jpeg = training_plan(tiny_recipe(data={"resize": 32, "candidates": 2, "jpeg_quality": 95}))
    assert bytes_of_clip(jpeg) < bytes_of_clip(raw) / 3


def test_the_published_numbers(tiny_recipe: Make) -> None:
    """Eight moments of 360 pixels as pixels take 50 MB a clip; as drawn anew each time, nothing is kept."""
    recipe = load_recipe("actnet_mbv2_p128")
    assert serving_plan(recipe).segments * 224**2 * 3 == bytes_of_clip(serving_plan(recipe))
    assert training_plan(recipe).candidates == 0


def test_what_is_needed_is_said_before_anything_is_decoded(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    def said(name: str, cache: Path | None, **changes: object) -> str:
        told: list[str] = []
        train(list_clips(clip_folder), tiny_recipe(**changes), tmp_path / name, cache, told.append)
        need = next(line for line in told if " need " in line)
        assert told.index(need) < next(place for place, line in enumerate(told) if line.startswith("decoded "))
        return need

    assert said("a", None).startswith("8 training clips and 2 to evaluate need about ")
    assert f" in {tmp_path / 'cache'} (" in said("b", tmp_path / "cache")
    assert f"need nothing more in {tmp_path / 'cache'}" in said("c", tmp_path / "cache", seed=1)


def test_what_cannot_fit_in_memory_is_refused_with_what_helps(clip_folder: Path, tiny_recipe: Make) -> None:
    sets, recipe = sets_of(list_clips(clip_folder)), tiny_recipe()
    with pytest.raises(DataError) as caught:
        plan_storage(sets, recipe, None, print, lambda: 1000)
    message = str(caught.value)
    assert "8 training clips and 2 to evaluate need about" in message
    assert "of memory, of which 1 MB are available" in message
    assert "--cache" in message
    assert "data.candidates (now 2)" in message
    assert "data.source_size (now 36)" in message
    assert "data.candidates = 0" in message
    assert "\n" not in message


def test_what_cannot_fit_on_disk_is_refused_before_anything_is_decoded(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity, "free_disk", lambda folder: 1000)
    with pytest.raises(DataError, match=r"need about 1 MB in .*cache, which has 1 MB free; give --cache a folder with"):
        train(list_clips(clip_folder), tiny_recipe(), tmp_path / "run", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_keeping_nothing_needs_space_for_batches_only(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets, recipe = sets_of(list_clips(clip_folder)), tiny_recipe(data={"resize": 32, "candidates": 0})
    told: list[str] = []
    found = plan_storage(sets, recipe, None, told.append, plenty)
    assert (found.training, found.evaluation) == (False, False)
    assert told[0].endswith("training frames are decoded anew in every epoch")
    assert plan_storage(sets, recipe, tmp_path, told.append, plenty).evaluation
    monkeypatch.setattr(storage, "free_disk", lambda folder: 0)
    assert not plan_storage(sets, recipe, tmp_path, told.append, plenty).evaluation
    with pytest.raises(DataError, match=r"a smaller optimiser\.batch_size"):
        plan_storage(sets, recipe, None, told.append, lambda: 1000)


def test_several_processes_need_their_own_memory(
    clip_folder: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets, recipe = sets_of(list_clips(clip_folder)), tiny_recipe()
    needed: list[int] = []
    monkeypatch.setattr(storage, "require_memory", lambda size, *_: str(needed.append(size)))
    for processes in ("1", "2"):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        plan_storage(sets, recipe, None, print, plenty)
    assert needed[1] > needed[0]


def test_memory_is_what_the_machine_or_the_group_leaves(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    assert free_memory(proc, groups) == 8000 * 1024
    (proc / "self" / "cgroup").write_text("0::/pod/own\n")
    (groups / "pod" / "own").mkdir(parents=True)
    (groups / "pod" / "own" / "memory.max").write_text("max\n")
    assert free_memory(proc, groups) == 8000 * 1024
    for name, value in (("max", "3000"), ("current", "2500"), ("stat", "anon 1\ninactive_file 400\n")):
        (groups / "pod" / f"memory.{name}").write_text(value)
    assert free_memory(proc, groups) == 900
    assert free_memory(tmp_path / "absent", groups) is None


@pytest.mark.parametrize(("size", "words"), [(0, "1 MB"), (3.7e8, "370 MB"), (6.31e10, "63.1 GB"), (1.3e12, "1.3 TB")])
def test_sizes_in_words(size: float, words: str) -> None:
    assert in_words(size) == words
