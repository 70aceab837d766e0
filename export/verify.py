"""Verifies that an exported artefact computes what the torch model computes, over whole videos.

The torch model sees each video at once, in float32; the artefact is run as the service runs it: one step at a time with
carried states, rows at different steps sharing a batch. All tolerances are defined here.

The focus is compared on the patches that the torch model looked at. Otherwise a rounding difference of 1e-5 in a patch
centre would give a different picture wherever a frame has sharp edges, and no tolerance could tell that from a mistake.
The end-to-end difference is reported besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adafocus.export.artefact import Artefact
from adafocus.export.errors import ExportError, NotReproducedError
from adafocus.export.graph_runs import Answers, run_ahead, run_videos
from adafocus.export.graphs import IMAGENET_MEAN, IMAGENET_STD
from adafocus.model.video_model import VideoModel

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
    """Largest differences between artefact and torch model, over all steps of some videos.

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


def verify(
    model: VideoModel, glance: Artefact, focus: Artefact, videos: Sequence[UInt8], wanted: Answers | None = None
) -> Agreement:
    """Compare the two exported graphs with the torch model.

    Args:
        model: in evaluation mode.
        glance: the glance graph.
        focus: the focus graph.
        videos: each ``uint8 [n, H, W, 3]``, its frames in visiting order: one per step, or a clip model's glance frames
            followed by its focus frames. Three or more exercise batches of one, two and three rows.
        wanted: what `torch_answers` gave for this model and these videos, if it has been computed already.

    Raises:
        NotReproducedError: they differ by more than the tolerances.
        ExportError: a graph does not run, or ``videos`` is empty.
    """
    if not videos:
        raise ExportError("there are no frames to verify with")
    wanted = wanted or torch_answers(model, videos)
    kind, frames = model.config.kind, model.config.sampling.frames
    own, staged = (run_videos(kind, glance, focus, videos, frames, looked) for looked in (None, wanted))
    if glance.looks_ahead:
        ahead = run_ahead(glance, focus, videos, wanted)
        _compare(wanted, ahead, ahead)  # for its bounds alone: the end-to-end difference is that of single steps
    return _compare(wanted, own, staged)


def _pixels(frames: UInt8) -> Tensor:
    """uint8 [n, H, W, 3] -> normalised [n, 3, H, W], spelt out independently of the graphs."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((torch.from_numpy(frames).float() / 255 - mean) / std).permute(0, 3, 1, 2)


@torch.no_grad()
def torch_answers(model: VideoModel, videos: Sequence[UInt8]) -> Answers:
    """The torch model's answers for videos as `verify` takes them; the model is in evaluation mode."""
    answers = []
    for video in videos:
        frames = _pixels(video)[None]
        glance = model.glance_clip(frames)
        focus = model.focus_clip(frames, glance.features, glance.patch_centres)
        answers.append((glance.features, glance.patch_centres, focus.step_logits, glance.logits))
    return Answers(*(torch.cat(parts).numpy() for parts in zip(*answers, strict=True)))


def _compare(wanted: Answers, own: Answers, staged: Answers) -> Agreement:
    features, centres = np.abs(wanted.features - staged.features), np.abs(wanted.centres - staged.centres)
    logits = np.abs(wanted.logits - staged.logits)
    exits = staged.glance_logits.shape[-1] > 0
    glance_logits = np.abs(wanted.glance_logits - staged.glance_logits) if exits else np.zeros((1, 1, 1))
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
        ("logits after the glance differ", float(glance_logits.max()), LOGITS_MAX, glance_logits),
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
