"""The bar counts optimiser steps over the whole training, with those of earlier starts, and says when it will end."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe import Recipe
from adafocus.training.run.progress import StepBar
from adafocus.training.run.signals import Interrupted
from adafocus.training.run.train import train
from tests.training.run.test_train import StopAfter


class Terminal(io.StringIO):
    """A terminal is attached."""

    def isatty(self) -> bool:
        return True


def test_counts_steps_and_goes_on_where_an_earlier_start_ended(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    data, recipe = list_clips(clip_folder), tiny_recipe(optimiser={"epochs": 3, "batch_size": 4, "lr": 0.02})
    with pytest.raises(Interrupted):
        train(data, recipe, tmp_path, say=StopAfter(1))
    shown = terminal.getvalue()
    assert "epoch 1/3:   0%" in shown
    assert " 0/6 [" in shown  # eight training clips are two batches of four
    assert " 2/6 [" in shown
    terminal.truncate(terminal.seek(0))
    told: list[str] = []
    train(data, recipe, tmp_path, say=told.append)
    counts = re.findall(r"epoch (\d)/3: .* (\d)/6 \[", terminal.getvalue().replace("\r", "\n"))
    assert counts[0] == ("2", "2")
    assert counts[-1] == ("3", "6")
    assert all(f" {name}=" in terminal.getvalue() for name in ("loss", "holdout_accuracy", "holdout_macro_f1"))
    assert sum(line.startswith("epoch ") for line in told) == 2


def test_after_a_resume_the_end_is_in_sight_with_the_first_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    row = {"epoch": 1.0, "loss": 0.25}
    with StepBar(2, 50, [row], hidden=False) as bar:
        bar.begin_epoch(2)
        assert "50/100" in terminal.getvalue()
        assert "<?" in terminal.getvalue().split("50/100")[-1]
        for _ in range(25):
            bar.step()
        bar.end_epoch(row)
        assert re.search(r" 75/100 \[\d\d:\d\d<\d\d:\d\d, .*loss=0.25", terminal.getvalue())


def test_nothing_is_shown_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, told = io.StringIO(), list[str]()
    monkeypatch.setattr(sys, "stderr", screen)
    with StepBar(1, 1, [], hidden=False) as bar:
        bar.begin_epoch(1)
        bar.step()
        bar.end_epoch({"epoch": 1.0, "loss": 1.0})
        bar.above(told.append, "said")
    assert screen.getvalue() == ""
    assert told == ["said"]
