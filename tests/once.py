"""What is slow to make and used by many tests: made once in a run, whichever test and worker process wants it first."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

if TYPE_CHECKING:
    from adafocus.export.graphs import ServedGraph


class Once:
    """Files that the worker processes of one run share.

    Args:
        root: folder of the run.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(exist_ok=True)

    def folder(self, name: str, build: Callable[[Path], object]) -> Path:
        """A folder that ``build`` fills, unless it was filled before; tests must not change it."""
        path, done = self.root / name, self.root / f"{name}.done"
        with FileLock(self.root / f"{name}.lock"):
            if not done.exists():
                path.mkdir()
                build(path)
                done.touch()
        return path

    def content(self, name: str, build: Callable[[], bytes]) -> bytes:
        """Bytes that ``build`` makes, unless they were made before."""
        folder = self.folder(name, lambda path: (path / "content").write_bytes(build()))
        return (folder / "content").read_bytes()

    def to_onnx(self, graph: ServedGraph) -> bytes:
        """`export.to_onnx.to_onnx`, which takes seconds of torch's exporter, once for each graph and its weights."""
        import torch

        from adafocus.export.to_onnx import to_onnx

        state = io.BytesIO()
        torch.save(graph.eval(), state)
        name = hashlib.sha256(state.getvalue()).hexdigest()
        return self.content(f"onnx-{name[:32]}", lambda: to_onnx(graph))
