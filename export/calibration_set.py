"""Labelled clips to measure a precision on: read as the service reads them, run through a pair of graphs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adafocus.bundle.manifest import Manifest
from adafocus.export.artefact import Artefact, Feeds, Float32
from adafocus.export.errors import ExportError
from adafocus.export.example_frames import real
from adafocus.export.graph_runs import run_videos

UInt8 = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

RANGE_CLIPS = 48
"""Clips whose frames determine the ranges of the tensors."""

EVALUATION_CLIPS = 400
"""Most clips that a precision is evaluated on. Their frames are held in memory: 2.4 MB a clip for 16 of 224 pixels."""

ENOUGH_CLIPS = 100
"""With at least so many clips unseen in training, a precision is evaluated on those alone."""

FEWEST_CLIPS = 20
"""With fewer clips, a single one would exceed every bound."""

CHUNK = 16
"""Clips that are run together."""


@dataclass(frozen=True)
class LabelledVideo:
    """A file, its class index, and the sha256 by which a checkpoint lists it."""

    path: Path
    label: int
    identity: str


@dataclass(frozen=True)
class LabelledClips:
    """A list of labelled videos.

    Attributes:
        name: of the data set, with its split.
        labels: class names, in any order.
        videos: in any order.
    """

    name: str
    labels: tuple[str, ...]
    videos: tuple[LabelledVideo, ...]


@dataclass(frozen=True)
class CalibrationSet:
    """Frames, ``uint8 [n, H, W, 3]`` a clip in visiting order: some for the ranges, others labelled, for evaluation."""

    name: str
    ranges: tuple[UInt8, ...]
    evaluation: tuple[UInt8, ...]
    labels: Indices


def read_material(clips: LabelledClips, manifest: Manifest, learned_from: Collection[str] = ()) -> CalibrationSet:
    """Read the clips that a precision is made from and evaluated on, spread evenly over all. Broken ones are left out.

    Args:
        clips: where they are.
        manifest: says which frames of them the model sees.
        learned_from: identities of clips that the model was trained on; they are evaluated only if there are too few
            others.

    Raises:
        ExportError: a class is not the model's, or too few clips can be read.
    """
    unknown = [label for label in clips.labels if label not in manifest.labels]
    if unknown:
        raise ExportError(f"{clips.name} has the classes {_few(unknown)}; the model has {_few(manifest.labels)}")
    every = max(2, len(clips.videos) // RANGE_CLIPS)
    ranged = clips.videos[::every][:RANGE_CLIPS]
    others = [video for video in clips.videos if video not in ranged]
    new = [video for video in others if video.identity not in learned_from]
    candidates = new if len(new) >= ENOUGH_CLIPS else others
    places = {round(place) for place in np.linspace(0, len(candidates) - 1, EVALUATION_CLIPS)} if candidates else set()
    ranges = [frames for frames, _ in _read(ranged, manifest)]
    evaluation = list(_read([candidates[place] for place in sorted(places)], manifest))
    if len(evaluation) < FEWEST_CLIPS or not ranges:
        raise ExportError(
            f"{clips.name} has {len(ranges) + len(evaluation)} clips that can be read; at least {2 * FEWEST_CLIPS} are "
            "needed to measure what a precision loses"
        )
    known = sum(video.identity in learned_from for _, video in evaluation)
    name = f"{clips.name} ({known} of them learned from)" if known else clips.name
    labels = np.array([manifest.labels.index(clips.labels[video.label]) for _, video in evaluation], dtype=np.int64)
    return CalibrationSet(name, tuple(ranges), tuple(frames for frames, _ in evaluation), labels)


def _read(videos: Iterable[LabelledVideo], manifest: Manifest) -> Iterator[tuple[UInt8, LabelledVideo]]:
    for video in videos:
        try:
            yield real(video.path, manifest.sampling, manifest.geometry), video
        except ExportError:
            continue


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (" …" if len(labels) > 5 else "")


def step_logits(glance: Artefact, focus: Artefact, videos: Sequence[UInt8], manifest: Manifest) -> Float32:
    """Logits [N, T, C] of N videos after each of T steps."""
    found = []
    for start in range(0, len(videos), CHUNK):
        chunk = videos[start : start + CHUNK]
        found.append(run_videos(manifest.kind, glance, focus, chunk, manifest.sampling.frames).logits)
    return np.concatenate(found)


@dataclass
class Recorder:
    """A graph that records its inputs."""

    graph: Artefact
    feeds: list[Feeds] = field(default_factory=list)

    @property
    def looks_ahead(self) -> bool:
        """See `Artefact`."""
        return self.graph.looks_ahead

    def width(self, name: str) -> int:
        """See `Artefact`."""
        return self.graph.width(name)

    def run(self, feeds: Feeds) -> dict[str, Float32]:
        """See `Artefact`."""
        self.feeds.append({name: array.copy() for name, array in feeds.items()})
        return self.graph.run(feeds)
