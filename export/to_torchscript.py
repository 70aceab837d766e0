"""Exports a graph module to a TorchScript archive: traced, frozen, without names of the exporting machine's files."""

from __future__ import annotations

import io
import re
import zipfile

import torch
from torch import nn

from adafocus.export.errors import ExportError, first_line
from adafocus.export.graphs import Cut, ServedGraph, cut_patches, example_inputs

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time that a zip archive can state."""


def to_torchscript(graph: ServedGraph) -> bytes:
    """Export a graph module to a TorchScript archive, free in its batch dimension and movable to another device.

    Args:
        graph: made with `movable_cut`.

    Raises:
        ExportError: torch could not express the graph, or tied it to one device.
    """
    try:
        with torch.no_grad():
            traced: nn.Module = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch.jit has no types
                graph.eval(), example_inputs(graph.signature()), check_trace=False
            )
            frozen = torch.jit.freeze(traced)
            archive = io.BytesIO()
            torch.jit.save(frozen, archive)
    except (RuntimeError, ValueError) as error:
        raise ExportError(f"{graph.component}: torch could not export it: {first_line(error)}") from error
    if fixed := _fixed_devices(frozen):
        raise ExportError(f"{graph.component}: the exported graph is tied to {', '.join(sorted(fixed))}")
    return _without_sources(archive)


def movable_cut() -> Cut:
    """`cut_patches` as a script: a traced one would keep the device that its indices were made on."""
    cut: Cut = torch.jit.script(cut_patches)
    return cut


def _fixed_devices(module: nn.Module) -> set[str]:
    """Devices that the graph names itself, in place of asking its inputs."""
    return set(re.findall(r'Device = prim::Constant\[value="(\w+)', str(module.inlined_graph)))


def _without_sources(archive: io.BytesIO) -> bytes:
    """The archive without its tables of source lines, which name files of the exporting machine."""
    out = io.BytesIO()
    with zipfile.ZipFile(archive) as given, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as kept:
        for entry in given.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                kept.writestr(zipfile.ZipInfo(entry.filename, _EPOCH), given.read(entry))
    return out.getvalue()
