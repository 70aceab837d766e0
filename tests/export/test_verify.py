from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from adafocus.export.artefact import Artefact, Feeds, Float32, OnnxGraph, load_artefact
from adafocus.export.errors import ExportError, NotReproducedError
from adafocus.export.example_frames import noise, texture
from adafocus.export.exporter import Export
from adafocus.export.verify import LOGITS_MAX, verify
from adafocus.model.adafocus import AdaFocus
from adafocus.model.tsm import AdaFocusTSM
from tests import tolerances


def artefacts(made: Export) -> tuple[Artefact, Artefact]:
    glance, focus = (load_artefact(graph, made.files[graph.file]) for graph in made.manifest.graphs)
    return glance, focus


def test_every_video_and_step_of_a_frame_model_is_compared(frame_export: Export, frame_network: AdaFocus) -> None:
    videos = [noise(4, 64, seed) for seed in range(5)]
    agreement = verify(frame_network, *artefacts(frame_export), videos)
    assert (agreement.videos, agreement.steps) == (5, 4)
    assert 0 < agreement.logits_rms < agreement.logits_max < tolerances.KERNELS
    assert agreement.end_to_end_max < LOGITS_MAX


def test_steps_that_look_ahead_are_compared_too(frame_export: Export, frame_network: AdaFocus) -> None:
    glance, focus = artefacts(frame_export)

    class ForgetsTheState:
        """Right one step at a time; ahead, every step begins from zeros."""

        looks_ahead = True
        width = staticmethod(glance.width)

        def run(self, feeds: Feeds) -> dict[str, Float32]:
            rows, state = len(feeds["frames"]), feeds["policy_state"]
            if len(state) != rows:
                state = np.zeros((rows, state.shape[1]), np.float32)
            return glance.run({"frames": feeds["frames"], "policy_state": state})

    with pytest.raises(NotReproducedError, match="patch centres differ by"):
        verify(frame_network, ForgetsTheState(), focus, [texture(4, 64, seed) for seed in range(2)])


def test_a_clip_model_is_compared_alone_and_in_a_batch(clip_export: Export, clip_network: AdaFocusTSM) -> None:
    graphs = artefacts(clip_export)
    for count in (1, 3):
        videos = [texture(7, 64, seed) for seed in range(count)]
        agreement = verify(clip_network, *graphs, videos)
        assert (agreement.videos, agreement.steps) == (count, 1)
        assert agreement.logits_max < tolerances.KERNELS


def test_other_weights_are_found_out(frame_export: Export, frame_network: AdaFocus) -> None:
    graphs = artefacts(frame_export)
    videos = [texture(4, 64)]
    last_head = copy.deepcopy(frame_network)
    with torch.no_grad():
        last_head.classifier.heads.bias[3, 2] += 2 * LOGITS_MAX
    with pytest.raises(
        NotReproducedError, match=r"logits differ by 0\.01 \(allowed: 0\.005\), most at step 4 of video 1"
    ):
        verify(last_head, *graphs, videos)
    glance = copy.deepcopy(frame_network)
    with torch.no_grad():
        glance.glance.stem.norm.bias += 0.1
    with pytest.raises(NotReproducedError, match="glance features differ by"):
        verify(glance, *graphs, videos)
    policy = copy.deepcopy(frame_network)
    with torch.no_grad():
        policy.policy.centre.bias += 0.1
    with pytest.raises(NotReproducedError, match="patch centres differ by"):
        verify(policy, *graphs, videos)


def test_a_small_difference_everywhere_is_found_out(clip_export: Export, clip_network: AdaFocusTSM) -> None:
    shifted = copy.deepcopy(clip_network)
    with torch.no_grad():
        shifted.focus_head.bias += 0.5 * LOGITS_MAX
    with pytest.raises(NotReproducedError, match=r"root mean square by 0\.0025"):
        verify(shifted, *artefacts(clip_export), [texture(7, 64)])


def test_nan_never_passes(frame_export: Export, frame_network: AdaFocus) -> None:
    broken = copy.deepcopy(frame_network)
    with torch.no_grad():
        broken.classifier.heads.weight[:] = np.nan
    with pytest.raises(NotReproducedError, match="logits differ by nan"):
        verify(broken, *artefacts(frame_export), [noise(4, 64)])


def test_files_that_do_not_load_or_run_are_named(frame_export: Export, frame_network: AdaFocus) -> None:
    with pytest.raises(ExportError, match="focus: ONNX Runtime cannot load the graph"):
        OnnxGraph("focus", b"not a graph", threads=1)
    graph = OnnxGraph("glance", frame_export.files["glance.onnx"], threads=1)
    with pytest.raises(ExportError, match="glance: ONNX Runtime cannot run the graph"):
        graph.run({"frames": noise(1, 32)})
    with pytest.raises(ExportError, match="glance: the graph has no tensor 'step'"):
        graph.width("step")
    with pytest.raises(ExportError, match="no frames to verify with"):
        verify(frame_network, graph, graph, [])
