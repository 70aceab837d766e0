from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from adafocus.bundle.store import load_bundle, write_bundle
from adafocus.export.artefact import TorchScriptGraph
from adafocus.export.errors import ExportError
from adafocus.export.example_frames import noise
from adafocus.export.exporter import Export, Request, export
from adafocus.export.graphs import served_graphs
from adafocus.export.to_torchscript import to_torchscript
from adafocus.model.adafocus import AdaFocus
from tests import tolerances
from tests.export.test_to_onnx import random_feeds


@pytest.fixture(scope="module", params=["frame.pt", "clip.pt"])
def made(request: pytest.FixtureRequest, checkpoints: Path) -> Export:
    return export(Request(checkpoints / request.param, "toy", formats=("torchscript", "onnx")))


def test_a_bundle_may_hold_both_formats(tmp_path: Path, made: Export) -> None:
    write_bundle(tmp_path / "toy", made.manifest, made.files)
    graphs = load_bundle(tmp_path / "toy").manifest.graphs
    assert [graph.file for graph in graphs] == ["glance.onnx", "focus.onnx", "glance.ts", "focus.ts"]
    assert list(made.agreements) == ["onnx", "torchscript"]
    assert made.agreements["torchscript"].logits_max < tolerances.KERNELS


def test_any_batch_runs_and_rows_answer_as_they_do_alone(made: Export) -> None:
    for graph in made.manifest.graphs[2:]:
        module = TorchScriptGraph(graph, made.files[graph.file])
        feeds = random_feeds(graph, 8)
        alone = [module.run({name: value[row : row + 1] for name, value in feeds.items()}) for row in range(8)]
        for batch in (1, 2, 3, 8):
            together = module.run({name: value[:batch] for name, value in feeds.items()})
            assert list(together) == [spec.name for spec in graph.outputs]
            for name, value in together.items():
                expected = np.concatenate([row[name] for row in alone[:batch]])
                np.testing.assert_allclose(value, expected, atol=tolerances.KERNELS)


def test_archives_name_no_source_file(made: Export) -> None:
    for name in ("glance.ts", "focus.ts"):
        with zipfile.ZipFile(io.BytesIO(made.files[name])) as archive:
            assert not [entry for entry in archive.namelist() if entry.endswith(".debug_pkl")]
            assert not any(b"graphs.py" in archive.read(entry) for entry in archive.namelist())


def test_a_graph_tied_to_a_device_is_refused(frame_network: AdaFocus) -> None:
    traced_crop = served_graphs(frame_network, look_ahead=False)[1]
    with pytest.raises(ExportError, match="focus: the exported graph is tied to cpu"):
        to_torchscript(traced_crop)


def test_files_that_do_not_load_or_run_are_named(made: Export) -> None:
    graph = made.manifest.graphs[2]
    with pytest.raises(ExportError, match="glance: torch cannot load the graph"):
        TorchScriptGraph(graph, b"not a graph")
    module = TorchScriptGraph(graph, made.files[graph.file])
    with pytest.raises(ExportError, match="glance: torch cannot run the graph"):
        module.run({spec.name: noise(1, 20)[0] for spec in graph.inputs})
    with pytest.raises(ExportError, match="glance: the graph has no tensor 'step'"):
        module.width("step")


def test_exporting_leaves_the_model_as_it_was(frame_network: AdaFocus) -> None:
    assert all(parameter.requires_grad for parameter in frame_network.parameters())
    assert torch.is_grad_enabled()
