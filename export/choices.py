"""The formats and precisions of a bundle's graphs, importable without torch so that `export --help` works."""

from __future__ import annotations

from adafocus.bundle.manifest import GraphFormat, Precision

FORMATS: tuple[GraphFormat, ...] = ("onnx", "torchscript")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
