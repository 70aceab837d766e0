"""Runs a pair of exported graphs over whole videos, as the service does: for verification and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from adafocus.bundle.manifest import ModelKind
from adafocus.bundle.signature import GLANCE_LOGITS
from adafocus.export.artefact import Artefact

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answers:
    """Glance features [V, T, G], patch centres [V, T, 2] and logits [V, T, C] of V videos at each of T steps.

    ``glance_logits`` are those of the glance's auxiliary head, [V, T, C]; [V, T, 0] if the graph does not give them.
    """

    features: Float32
    centres: Float32
    logits: Float32
    glance_logits: Float32


class _Run(Protocol):
    def __call__(
        self,
        glance: Artefact,
        focus: Artefact,
        videos: Sequence[UInt8],
        glance_frames: int,
        looked: Answers | None = None,
    ) -> Answers: ...


def run_videos(
    kind: ModelKind,
    glance: Artefact,
    focus: Artefact,
    videos: Sequence[UInt8],
    glance_frames: int,
    looked: Answers | None = None,
) -> Answers:
    """Run a pair of graphs over videos: `run_steps` or `run_clips`, as the kind of model needs.

    Args:
        kind: of the model.
        glance: the glance graph.
        focus: the focus graph.
        videos: each ``uint8 [n, H, W, 3]``, its frames in visiting order.
        glance_frames: how many of the n the glance sees.
        looked: whose glance features and patch centres the focus gets, in place of the glance graph's own.
    """
    return _RUNS[kind](glance, focus, videos, glance_frames, looked)


def run_steps(
    glance: Artefact, focus: Artefact, videos: Sequence[UInt8], glance_frames: int, looked: Answers | None = None
) -> Answers:
    """Run a frame model over videos of one frame per step.

    Video v starts v turns after the first, so that rows of one batch are at different steps.

    Args:
        glance: the glance graph.
        focus: the focus graph.
        videos: each ``uint8 [T, H, W, 3]`` in visiting order.
        glance_frames: T.
        looked: whose glance features and patch centres the focus gets, in place of the glance graph's own.
    """
    count, steps = len(videos), glance_frames
    policy_state, pooled_state = _first_states(glance, focus, count)
    classes = focus.width("logits")
    widths = (glance.width("glance_feature"), glance.width("patch_centre"), classes)
    found = Answers(*(np.empty((count, steps, width), np.float32) for width in (*widths, classes)))
    for turn in range(count + steps - 1):
        rows = np.array([v for v in range(count) if 0 <= turn - v < steps])
        step = turn - rows
        frames = np.stack([videos[v][turn - v] for v in rows])
        seen = glance.run({"frames": frames, "policy_state": policy_state[rows]})
        policy_state[rows] = seen["next_policy_state"]
        found.features[rows, step], found.centres[rows, step] = seen["glance_feature"], seen["patch_centre"]
        exits = _glance_logits(seen)
        found.glance_logits[rows, step, : exits.shape[1]] = exits
        given = looked or found
        read = focus.run(
            {
                "frames": frames,
                "patch_centre": given.centres[rows, step],
                "glance_feature": given.features[rows, step],
                "pooled_state": pooled_state[rows],
                "step": step.astype(np.int64),
            }
        )
        pooled_state[rows], found.logits[rows, step] = read["next_pooled_state"], read["logits"]
    return replace(found, glance_logits=found.glance_logits[..., : exits.shape[1]])


def run_ahead(glance: Artefact, focus: Artefact, videos: Sequence[UInt8], looked: Answers | None = None) -> Answers:
    """Run a frame model that looks ahead: the first step of every video in one batch, then all others in another.

    Args:
        glance: the glance graph.
        focus: the focus graph.
        videos: each ``uint8 [T, H, W, 3]`` in visiting order.
        looked: whose glance features and patch centres the focus gets, in place of the glance graph's own.
    """
    count, steps = len(videos), len(videos[0])
    policy_state, pooled_state = _first_states(glance, focus, count)
    turns = []
    for begin, end in ((0, 1), (1, steps)):
        if begin == end:
            continue
        frames = np.concatenate([np.stack([video[step] for video in videos]) for step in range(begin, end)])
        seen = glance.run({"frames": frames, "policy_state": policy_state})
        feature, centre = seen["glance_feature"], seen["patch_centre"]
        given = (feature, centre)
        if looked:
            given = _by_step(looked.features[:, begin:end]), _by_step(looked.centres[:, begin:end])
        read = focus.run(
            {
                "frames": frames,
                "patch_centre": given[1],
                "glance_feature": given[0],
                "pooled_state": pooled_state,
                "step": np.repeat(np.arange(begin, end), count),
            }
        )
        policy_state, pooled_state = seen["next_policy_state"][-count:], read["next_pooled_state"][-count:]
        turns.append([_by_video(array, count) for array in (feature, centre, read["logits"], _glance_logits(seen))])
    return Answers(*(np.concatenate(parts, axis=1) for parts in zip(*turns, strict=True)))


def _first_states(glance: Artefact, focus: Artefact, videos: int) -> tuple[Float32, Float32]:
    """Zeros: policy state [V, S], pooled state [V, F]."""
    policy, pooled = glance.width("policy_state"), focus.width("pooled_state")
    return np.zeros((videos, policy), np.float32), np.zeros((videos, pooled), np.float32)


def _glance_logits(seen: Mapping[str, Float32]) -> Float32:
    return seen.get(GLANCE_LOGITS, np.zeros((len(seen["patch_centre"]), 0), np.float32))


def _by_step(array: Float32) -> Float32:
    """[V, T, N] -> [T·V, N], step after step."""
    return array.swapaxes(0, 1).reshape(-1, array.shape[-1])


def _by_video(array: Float32, videos: int) -> Float32:
    """[T·V, N], step after step -> [V, T, N]."""
    return array.reshape(len(array) // videos, videos, array.shape[-1]).swapaxes(0, 1)


def run_clips(
    glance: Artefact,
    focus: Artefact,
    videos: Sequence[UInt8],
    glance_frames: int,
    looked: Answers | None = None,
) -> Answers:
    """Run a clip model over videos of glance frames and then focus frames: the first alone, the others together.

    Args:
        glance: the glance graph.
        focus: the focus graph.
        videos: each ``uint8 [n, H, W, 3]``.
        glance_frames: how many of the n are the glance's.
        looked: whose glance features and patch centres the focus gets, in place of the glance graph's own.
    """
    answers = []
    for rows in (slice(0, 1), slice(1, len(videos))):
        if not videos[rows]:
            continue
        seen = glance.run({"frames": np.stack([video[:glance_frames] for video in videos[rows]])})
        feature, centre = seen["glance_feature"], seen["patch_centre"]
        given = (looked.features[rows, 0], looked.centres[rows, 0]) if looked else (feature, centre)
        frames = np.stack([video[glance_frames:] for video in videos[rows]])
        read = focus.run({"frames": frames, "glance_feature": given[0], "patch_centre": given[1]})
        answers.append((feature, centre, read["logits"], _glance_logits(seen)))
    return Answers(*(np.concatenate(parts)[:, None] for parts in zip(*answers, strict=True)))


_RUNS: Mapping[ModelKind, _Run] = {"frame": run_steps, "clip": run_clips}
