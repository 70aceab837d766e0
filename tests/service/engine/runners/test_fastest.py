"""The automatic choice, for what a bundle holds, what is installed and what the processor is fast in."""

from __future__ import annotations

import pytest

from adafocus.bundle.manifest import Flops, GraphFormat, Manifest, Precision
from adafocus.service.engine.runners.selection import (
    BACKENDS,
    LARGE_STEP_FLOPS,
    Abilities,
    choose_precision,
    fastest_on_processor,
    graph_threads,
)
from tests.bundle.factory import make_graph, make_manifest

SMALL = Flops(glance=1, focus=1, paper_per_step=2, convention="multiply-adds")
LARGE = Flops(glance=1, focus=LARGE_STEP_FLOPS, paper_per_step=LARGE_STEP_FLOPS + 1, convention="multiply-adds")
ALL = {"onnxruntime", "openvino", "torch"}


def manifest(*held: tuple[GraphFormat, Precision], flops: Flops = SMALL) -> Manifest:
    graphs = tuple(
        make_graph(component).model_copy(update={"format": fmt, "precision": precision, "file": f"{component}{index}"})
        for index, (fmt, precision) in enumerate(held)
        for component in ("glance", "focus")
    )
    return make_manifest(graphs=graphs, flops=flops)


def here(installed: set[str], *fast: Precision) -> Abilities:
    return Abilities(frozenset(installed), frozenset({"fp32", *fast}))


ONNX, INT8, TORCHSCRIPT = ("onnx", "fp32"), ("onnx", "int8"), ("torchscript", "fp32")


@pytest.mark.parametrize(
    ("held", "flops", "abilities", "backend"),
    [
        ([ONNX], SMALL, here(ALL, "bf16", "int8"), "onnxruntime-cpu"),
        ([ONNX], LARGE, here(ALL, "bf16", "int8"), "openvino"),
        ([ONNX], LARGE, here(ALL), "onnxruntime-cpu"),
        ([ONNX], LARGE, here({"onnxruntime"}, "bf16"), "onnxruntime-cpu"),
        ([ONNX], SMALL, here({"openvino"}, "bf16"), "openvino"),
        ([ONNX, INT8], SMALL, here(ALL, "bf16", "int8"), "onnxruntime-cpu"),
        ([INT8], SMALL, here(ALL, "bf16", "int8"), "onnxruntime-cpu"),
        ([ONNX, INT8], LARGE, here(ALL, "bf16", "int8"), "openvino"),
        ([ONNX, INT8], LARGE, here({"onnxruntime"}, "bf16", "int8"), "onnxruntime-cpu"),
        ([ONNX, INT8], LARGE, here(ALL, "bf16"), "openvino"),
        ([ONNX, TORCHSCRIPT], SMALL, here({"torch"}), "torchscript"),
        ([TORCHSCRIPT], SMALL, here(ALL), "torchscript"),
        ([ONNX], SMALL, here(set()), "onnxruntime-cpu"),
    ],
)
def test_the_backend(
    held: list[tuple[GraphFormat, Precision]], flops: Flops, abilities: Abilities, backend: str
) -> None:
    assert fastest_on_processor(manifest(*held, flops=flops), None, abilities) == backend


@pytest.mark.parametrize(
    ("backend", "held", "wanted", "fast", "precision"),
    [
        ("onnxruntime-cpu", [ONNX, INT8], None, ["int8"], "int8"),
        ("onnxruntime-cpu", [ONNX, INT8], None, [], "fp32"),
        ("onnxruntime-cpu", [ONNX, INT8], "int8", [], "int8"),
        ("onnxruntime-cpu", [INT8], None, [], "int8"),
        ("onnxruntime-cpu", [ONNX], "int8", ["int8"], None),
        ("onnxruntime-cuda", [ONNX, ("onnx", "fp16")], None, [], "fp16"),
        ("openvino", [ONNX], None, ["bf16"], "bf16"),
        ("openvino", [ONNX], "fp32", ["bf16"], "fp32"),
        ("torchscript", [ONNX], None, [], None),
    ],
)
def test_the_precision(
    backend: str,
    held: list[tuple[GraphFormat, Precision]],
    wanted: Precision | None,
    fast: list[Precision],
    precision: Precision | None,
) -> None:
    large = manifest(*held, flops=LARGE)
    assert choose_precision(BACKENDS[backend], large, wanted, here(ALL, *fast)) == precision


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino"])
def test_a_small_model_is_served_in_fp32_unless_asked_otherwise(backend: str) -> None:
    small, abilities = manifest(ONNX, INT8), here(ALL, "bf16", "int8")
    assert choose_precision(BACKENDS[backend], small, None, abilities) == "fp32"
    assert choose_precision(BACKENDS[backend], small, "int8", abilities) == "int8"
    assert choose_precision(BACKENDS[backend], manifest(INT8), None, abilities) == "int8"


def test_a_precision_that_was_asked_for_decides_the_backend() -> None:
    abilities = here(ALL, "bf16", "int8")
    assert fastest_on_processor(manifest(ONNX, INT8), "bf16", abilities) == "openvino"
    assert fastest_on_processor(manifest(ONNX, INT8, flops=LARGE), "fp32", abilities) == "onnxruntime-cpu"


@pytest.mark.parametrize(("flops", "cores", "threads"), [(SMALL, 1, 1), (SMALL, 2, 1), (SMALL, 16, 4), (LARGE, 2, 2)])
def test_a_small_model_leaves_processors_to_the_decoders(flops: Flops, cores: int, threads: int) -> None:
    assert graph_threads(manifest(ONNX, flops=flops), cores) == threads
