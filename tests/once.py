"""What is slow to make and used by many tests: made once in a run, whichever test and worker process wants it first."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
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
        from adafocus.export.to_onnx import to_onnx

        digest = hashlib.sha256()
        for part in description(graph.eval(), ""):
            digest.update(part)
        return self.content(f"onnx-{digest.hexdigest()[:32]}", lambda: to_onnx(graph))


def description(value: object, name: str) -> Iterator[bytes]:
    """Everything that decides what a module computes: classes, settings, weights and code, by their names.

    Equal modules have equal descriptions, however they were made; a pickle also tells which objects they share.
    """
    import torch

    if isinstance(value, torch.nn.Module):
        yield f"{name}: {type(value).__qualname__}\n".encode()
        for key, part in sorted(vars(value).items()):
            yield from description(part, f"{name}.{key}")
    elif isinstance(value, torch.Tensor):
        yield f"{name}: {value.dtype} {tuple(value.shape)}\n".encode()
        yield value.detach().numpy().tobytes()
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from description(part, f"{name}.{key}")
    elif callable(value):
        yield f"{name}: {value.__module__}.{value.__qualname__}\n".encode()
    else:
        told = repr(value)
        assert " at 0x" not in told, f"{name} is {told}, which says nothing of its content"
        yield f"{name}: {told}\n".encode()
