"""Does the artefact compute what the torch model computes? Both are run over whole videos and compared.

The torch model sees each video at once, in float32; the artefact is run as the service runs it: one step at a time with
carried states, rows at different steps sharing a batch. Every tolerance stands here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from torch import Tensor

from export.errors import ExportError, NotReproducedError, first_line
from export.graphs import IMAGENET_MEAN, IMAGENET_STD
from model.adafocus import AdaFocus
from model.tsm import AdaFocusTSM

LOGITS_MAX = 1e-2
"""Largest difference of a logit. Trained networks stay near 1e-5; untrained ones are what needs the room."""

LOGITS_RMS = 2e-3
"""Root mean square difference of the logits."""

CENTRES_MAX = 1e-4
"""Largest difference of a patch centre, in units of the room that the patch has to move."""

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How far artefact and torch model were apart, at most and in the mean square, over all steps of some videos."""

    videos: int
    steps: int
    logits_max: float
    logits_rms: float
    centres_max: float


@dataclass(frozen=True)
class _Answers:
    """Logits [V, T, C] and patch centres [V, T, 2] of V videos after each of T steps."""

    logits: Float32
    centres: Float32


class OnnxGraph:
    """An ONNX file in memory, run on the processor."""

    def __init__(self, component: str, content: bytes, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._component = component
        try:
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no public exception base class
            raise ExportError(f"{component}: ONNX Runtime cannot load the graph: {first_line(error)}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, Float32]:
        """Outputs by name.

        Raises:
            ExportError: the graph fails on these inputs.
        """
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))
        except Exception as error:  # as above
            raise ExportError(f"{self._component}: ONNX Runtime cannot run the graph: {first_line(error)}") from error


def verify(model: AdaFocus | AdaFocusTSM, glance: bytes, focus: bytes, videos: Sequence[UInt8]) -> Agreement:
    """Compare the two files with the torch model.

    Args:
        model: in evaluation mode.
        glance: the glance graph as an ONNX file.
        focus: the focus graph as an ONNX file.
        videos: each ``uint8 [n, H, W, 3]``, its frames in visiting order: one per step, or a clip model's glance frames
            followed by its focus frames. Three or more exercise batches of one, two and three rows.

    Raises:
        NotReproducedError: they differ by more than the tolerances.
        ExportError: a graph does not load or run, or ``videos`` is empty.
    """
    if not videos:
        raise ExportError("there are no frames to verify with")
    threads = torch.get_num_threads()
    graphs = OnnxGraph("glance", glance, threads), OnnxGraph("focus", focus, threads)
    with torch.no_grad():
        if isinstance(model, AdaFocus):
            return _compare(_torch_steps(model, videos), _artefact_steps(model, *graphs, videos))
        return _compare(_torch_clips(model, videos), _artefact_clips(model, *graphs, videos))


def _pixels(frames: UInt8) -> Tensor:
    """uint8 [n, H, W, 3] -> normalised [n, 3, H, W], spelt out independently of the graphs."""
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((torch.from_numpy(frames).float() / 255 - mean) / std).permute(0, 3, 1, 2)


def _torch_steps(model: AdaFocus, videos: Sequence[UInt8]) -> _Answers:
    outputs = [model(_pixels(video)[None]) for video in videos]
    return _Answers(
        torch.cat([output.step_logits for output in outputs]).numpy(),
        torch.cat([output.patch_centres for output in outputs]).numpy(),
    )


def _torch_clips(model: AdaFocusTSM, videos: Sequence[UInt8]) -> _Answers:
    split = model.config.glance_frames
    outputs = [model(_pixels(video[:split])[None], _pixels(video[split:])[None]) for video in videos]
    return _Answers(
        torch.stack([output.logits for output in outputs]).numpy(),
        torch.stack([output.patch_centre for output in outputs]).numpy(),
    )


def _artefact_steps(model: AdaFocus, glance: OnnxGraph, focus: OnnxGraph, videos: Sequence[UInt8]) -> _Answers:
    """Video v starts v turns after the first, so that rows of one batch are at different steps."""
    config, count = model.config, len(videos)
    logits = np.empty((count, config.steps, config.num_classes), np.float32)
    centres = np.empty((count, config.steps, 2), np.float32)
    policy_state, pooled_state = (state.numpy() for state in model.initial_states(count))
    for turn in range(count + config.steps - 1):
        rows = np.array([v for v in range(count) if 0 <= turn - v < config.steps])
        step = turn - rows
        frames = np.stack([videos[v][turn - v] for v in rows])
        seen = glance.run({"frames": frames, "policy_state": policy_state[rows]})
        read = focus.run(
            {
                "frames": frames,
                "patch_centre": seen["patch_centre"],
                "glance_feature": seen["glance_feature"],
                "pooled_state": pooled_state[rows],
                "step": step.astype(np.int64),
            }
        )
        policy_state[rows], pooled_state[rows] = seen["next_policy_state"], read["next_pooled_state"]
        centres[rows, step], logits[rows, step] = seen["patch_centre"], read["logits"]
    return _Answers(logits, centres)


def _artefact_clips(model: AdaFocusTSM, glance: OnnxGraph, focus: OnnxGraph, videos: Sequence[UInt8]) -> _Answers:
    """The first video alone, the others together."""
    split = model.config.glance_frames
    logits, centres = [], []
    for batch in (videos[:1], videos[1:]):
        if batch:
            seen = glance.run({"frames": np.stack([video[:split] for video in batch])})
            read = focus.run({"frames": np.stack([video[split:] for video in batch]), **seen})
            logits.append(read["logits"])
            centres.append(seen["patch_centre"])
    return _Answers(np.concatenate(logits)[:, None], np.concatenate(centres)[:, None])


def _compare(torch_model: _Answers, artefact: _Answers) -> Agreement:
    logits = np.abs(torch_model.logits - artefact.logits)
    centres = np.abs(torch_model.centres - artefact.centres)
    agreement = Agreement(
        videos=logits.shape[0],
        steps=logits.shape[1],
        logits_max=float(logits.max()),
        logits_rms=float(np.sqrt(np.mean(np.square(logits)))),
        centres_max=float(centres.max()),
    )
    for what, found, allowed, differences in (
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
