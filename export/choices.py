"""What a bundle's graphs may be: known without torch, as whoever reads `adafocus export --help` may have none."""

from __future__ import annotations

from bundle.manifest import GraphFormat, Precision

FORMATS: tuple[GraphFormat, ...] = ("onnx", "torchscript")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
