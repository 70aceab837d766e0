"""Does the artefact compute what the torch model computes? Both are run over whole videos and compared.

The torch model sees each video at once, in float32; the artefact is run as the service runs it: one step at a time with
carried states, rows at different steps sharing a batch. Every tolerance stands here.

The focus is compared on the patches that the torch model looked at. Otherwise a difference of 1e-5 in a patch centre,
which is rounding, would come back as a different picture wherever a frame has sharp edges, and no tolerance could tell
that from a mistake. How far the answers are apart end to end is reported beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.artefact import Artefact
from export.errors import ExportError, NotReproducedError
from export.graphs import IMAGENET_MEAN, IMAGENET_STD
from model.adafocus import AdaFocus
from model.tsm import AdaFocusTSM

LOGITS_MAX = 5e-3
"""Largest difference of a logit. Measured: 1e-5 to 1e-4 on pictures, up to 6e-4 on noise in untrained networks."""

LOGITS_RMS = 1e-3
"""Root mean square difference of the logits."""

CENTRES_MAX = 1e-3
"""Largest difference of a patch centre, as a share of the range in which the patch can move: a tenth of a pixel."""

FEATURES_MAX = 1e-2
"""Largest difference of a glance feature."""

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How far artefact and torch model were apart, over all steps of some videos.

    Attributes:
        videos, steps: what was compared.
        features_max, centres_max: of the glance and the policy.
        logits_max, logits_rms: of the focus and the classifier, on the torch model's patches.
        end_to_end_max: of the logits with each side following its own patches; has no bound.
    """

    videos: int
    steps: int
    features_max: float
    centres_max: float
    logits_max: float
    logits_rms: float
    end_to_end_max: float


@dataclass(frozen=True)
class Answers:
    """Glance features [V, T, G], patch centres [V, T, 2] and logits [V, T, C] of V videos at each of T steps."""

    features: Float32
    centres: Float32
    logits: Float32


def verify(model: AdaFocus | AdaFocusTSM, glance: Artefact, focus: Artefact, videos: Sequence[UInt8]) -> Agreement:
    """Compare the two exported graphs with the torch model.

    Args:
        model: in evaluation mode.
        glance: the glance graph.
        focus: the focus graph.
        videos: each ``uint8 [n, H, W, 3]``, its frames in visiting order: one per step, or a clip model's glance frames
            followed by its focus frames. Three or more exercise batches of one, two and three rows.

    Raises:
        NotReproducedError: they differ by more than the tolerances.
        ExportError: a graph does not run, or ``videos`` is empty.
    """
    if not videos:
        raise ExportError("there are no frames to verify with")
    with torch.no_grad():
        if isinstance(model, AdaFocus):
            wanted = _torch_steps(model, videos)
            own, staged = (run_steps(glance, focus, videos, looked) for looked in (None, wanted))
            if glance.looks_ahead:
                _compare(wanted, *(run_ahead(glance, focus, videos, looked) for looked in (None, wanted)))
        else:
            wanted = _torch_clips(model, videos)
            split = model.config.glance_frames
            own, staged = (run_clips(glance, focus, videos, split, looked) for looked in (None, wanted))
    return _compare(wanted, own, staged)


def _pixels(frames: UInt8) -> Tensor:
    """uint8 [n, H, W, 3] -> normalised [n, 3, H, W], spelt out independently of the graphs."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((torch.from_numpy(frames).float() / 255 - mean) / std).permute(0, 3, 1, 2)


def _torch_steps(model: AdaFocus, videos: Sequence[UInt8]) -> Answers:
    answers = []
    for video in videos:
        frames = _pixels(video)[None]
        glance = model.glance_clip(frames)
        focus = model.focus_clip(frames, glance.features, glance.patch_centres)
        answers.append((glance.features, glance.patch_centres, focus.step_logits))
    return Answers(*(torch.cat(parts).numpy() for parts in zip(*answers, strict=True)))


def _torch_clips(model: AdaFocusTSM, videos: Sequence[UInt8]) -> Answers:
    split, answers = model.config.glance_frames, []
    for video in videos:
        glance = model.glance_clip(_pixels(video[:split])[None])
        focus = model.focus_clip(_pixels(video[split:])[None], glance.patch_centre)
        answers.append((glance.logits, glance.patch_centre, glance.logits + focus.logits))
    return Answers(*(torch.stack(parts).numpy() for parts in zip(*answers, strict=True)))


def run_steps(glance: Artefact, focus: Artefact, videos: Sequence[UInt8], looked: Answers | None = None) -> Answers:
    """Run a frame model over videos of one frame per step.

    Video v starts v turns after the first, so that rows of one batch are at different steps.

    Args:
        glance: the glance graph.
        focus: the focus graph.
        videos: each ``uint8 [T, H, W, 3]`` in visiting order.
        looked: whose glance features and patch centres the focus gets, in place of the glance graph's own.
    """
    count, steps = len(videos), len(videos[0])
    policy_state, pooled_state = _first_states(glance, focus, count)
    found = Answers(
        *(
            np.empty((count, steps, graph.width(name)), np.float32)
            for graph, name in ((glance, "glance_feature"), (glance, "patch_centre"), (focus, "logits"))
        )
    )
    for turn in range(count + steps - 1):
        rows = np.array([v for v in range(count) if 0 <= turn - v < steps])
        step = turn - rows
        frames = np.stack([videos[v][turn - v] for v in rows])
        seen = glance.run({"frames": frames, "policy_state": policy_state[rows]})
        policy_state[rows] = seen["next_policy_state"]
        found.features[rows, step], found.centres[rows, step] = seen["glance_feature"], seen["patch_centre"]
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
    return found


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
        turns.append([_by_video(array, count) for array in (feature, centre, read["logits"])])
    return Answers(*(np.concatenate(parts, axis=1) for parts in zip(*turns, strict=True)))


def _first_states(glance: Artefact, focus: Artefact, videos: int) -> tuple[Float32, Float32]:
    """Zeros: policy state [V, S], pooled state [V, F]."""
    policy, pooled = glance.width("policy_state"), focus.width("pooled_state")
    return np.zeros((videos, policy), np.float32), np.zeros((videos, pooled), np.float32)


def _by_step(array: Float32) -> Float32:
    """[V, T, N] -> [T·V, N], step after step."""
    return array.swapaxes(0, 1).reshape(-1, array.shape[-1])


def _by_video(array: Float32, videos: int) -> Float32:
    """[T·V, N], step after step -> [V, T, N]."""
    return array.reshape(-1, videos, array.shape[-1]).swapaxes(0, 1)


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
        answers.append((feature, centre, read["logits"]))
    return Answers(*(np.concatenate(parts)[:, None] for parts in zip(*answers, strict=True)))


def _compare(wanted: Answers, own: Answers, staged: Answers) -> Agreement:
    features, centres = np.abs(wanted.features - staged.features), np.abs(wanted.centres - staged.centres)
    logits = np.abs(wanted.logits - staged.logits)
    agreement = Agreement(
        videos=logits.shape[0],
        steps=logits.shape[1],
        features_max=float(features.max()),
        centres_max=float(centres.max()),
        logits_max=float(logits.max()),
        logits_rms=float(np.sqrt(np.mean(np.square(logits)))),
        end_to_end_max=float(np.abs(wanted.logits - own.logits).max()),
    )
    for what, found, allowed, differences in (
        ("glance features differ", agreement.features_max, FEATURES_MAX, features),
        ("patch centres differ", agreement.centres_max, CENTRES_MAX, centres),
        ("logits differ", agreement.logits_max, LOGITS_MAX, logits),
        ("logits differ in root mean square", agreement.logits_rms, LOGITS_RMS, logits),
    ):
        if not found <= allowed:  # so that NaN fails
            video, step = np.unravel_index(int(np.argmax(differences)), differences.shape)[:2]
            raise NotReproducedError(
                f"the exported graphs do not reproduce the torch model: {what} by {found:.3g} (allowed: {allowed:g}), "
                f"most at step {step + 1} of video {video + 1} of {agreement.videos}"
            )
    return agreement
