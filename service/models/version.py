"""One model, and one version of it in memory."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import Bundle
from adafocus.service.runtime import Runtime


class LoadedVersion:
    """One version of a model in memory: it is closed after the last request that uses it.

    Args:
        runtime: what its requests pass through.
        resources: closes it.
    """

    def __init__(self, runtime: Runtime, resources: AsyncExitStack) -> None:
        self.runtime = runtime
        self._resources = resources
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def take(self) -> Runtime:
        """Keep it open until `give_back` is called."""
        self._users += 1
        self._unused.clear()
        return self.runtime

    def give_back(self) -> None:
        """Undo one `take`."""
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def drain(self) -> None:
        """Wait until nobody uses it. Nobody may take it meanwhile."""
        await self._unused.wait()
        await self.runtime.shadows.settled()

    async def close(self) -> None:
        """Close it now; what still uses it fails. May be called again."""
        await self._resources.aclose()


@dataclass(slots=True, eq=False)
class Model:
    """One model of the service.

    Attributes:
        bundle: of the version that answers, or that will once it is loaded.
        version: what answers; None while it is not loaded.
        wanted: whether it should be loaded; the service is ready when all wanted models are.
        error: why the newest bundle could not be loaded; empty if it could.
        retiring: old versions that still answer requests.
    """

    bundle: Bundle
    version: LoadedVersion | None = None
    wanted: bool = True
    error: str = ""
    retiring: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def manifest(self) -> Manifest:
        """The manifest of its bundle, with the name that it is served under."""
        return self.bundle.manifest

    @property
    def alive(self) -> bool:
        """Whether it can answer."""
        return self.version is not None and self.version.runtime.engine.alive
