"""A limit on the memory that loading a model may take: a graph of a kilobyte may have a constant of gigabytes.

Runtimes compute what is constant in a graph while they load it, or when it runs for the first time. Without a limit
such a graph takes all memory of the machine, and with it the models that are being served.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from adafocus.bundle.manifest import Graph
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.memory import limited_growth

LEAST_BYTES = 2 << 30
"""Memory that loading a model of any size may take."""
TIMES_FILES = 16
"""So many times the size of its files in addition: weights are copied and packed, once for each batch size at worst."""

_OUT_OF_MEMORY = re.compile(r"bad.?alloc|allocat|out of memory|not enough memory", re.IGNORECASE)


def most_loading_bytes(graphs: Iterable[Graph]) -> int:
    """Memory that loading and warming up these graphs on the processor may take, bytes."""
    return LEAST_BYTES + TIMES_FILES * sum(graph.bytes for graph in graphs)


@contextmanager
def bounded_loading(most_bytes: int | None) -> Iterator[None]:
    """Load or warm up a model in the block.

    Args:
        most_bytes: memory that it may take; None: any, because the driver of a GPU reserves what it likes.

    Raises:
        RunnerError: the model could not be loaded, or needs more.
    """
    if most_bytes is None:
        yield
        return
    try:
        with limited_growth(most_bytes):
            yield
    except (RunnerError, MemoryError) as error:
        if isinstance(error, RunnerError) and not _OUT_OF_MEMORY.search(f"{error} {error.__cause__}"):
            raise
        text = f"loading the model needs more than {most_bytes} bytes of memory, the most allowed"
        raise RunnerError(f"{text}: {error}" if str(error) else text) from error
