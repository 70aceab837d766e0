"""The log for TensorBoard holds the numbers of log.csv, and after a resume shows each epoch once."""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe import Recipe
from adafocus.training.run.events import EventLog, heading
from adafocus.training.run.signals import Interrupted
from adafocus.training.run.train import train
from tests.training.run.test_train import StopAfter


def events(folder: Path) -> Iterator[Event]:
    """Every event, file after file: a length, its checksum, the event, its checksum."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + length])
            content = content[12 + length + 4 :]


def test_holds_what_the_table_holds(clip_folder: Path, tmp_path: Path, tiny_recipe: Callable[..., Recipe]) -> None:
    data, recipe = list_clips(clip_folder), tiny_recipe(optimiser={"epochs": 2, "batch_size": 4})
    with pytest.raises(Interrupted):
        train(data, recipe, tmp_path, say=StopAfter(1))
    train(data, recipe, tmp_path)
    found = {}
    starts = []
    for event in events(tmp_path / "tensorboard"):
        if event.HasField("session_log"):
            starts.append(event.step)  # a viewer drops what an earlier start wrote from this step on
        for value in event.summary.value:
            found[event.step, value.tag.split("/")[1]] = value.simple_value
    assert starts[-1] == 2
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    told = {(int(row["epoch"]), key): float(row[key]) for row in rows for key in row if key != "epoch"}
    assert found == pytest.approx(told, rel=1e-6)


def test_a_finished_run_and_other_processes_write_nothing(tmp_path: Path) -> None:
    with EventLog(None) as log:
        log.write({"epoch": 1.0, "loss": 2.0})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        ("holdout_accuracy", "holdout"),
        ("validation_map", "validation"),
        ("forward_s", "seconds"),
        ("loss", "training"),
        ("patch_spread", "training"),
    ],
)
def test_columns_are_grouped(column: str, shown: str) -> None:
    assert heading(column) == shown
