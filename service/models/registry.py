"""The models of a service: which there are, which version of each answers, and how one takes another's place.

A new version is loaded beside the old one: its bundle is verified and its engine warmed before a request goes to it.
The old one then answers the requests that it has, and is closed after the last of them. A bundle that cannot be loaded
replaces nothing.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from adafocus.bundle.manifest import Manifest
from adafocus.bundle.repository import NAME, ChangeDetector, Fingerprint, fingerprint
from adafocus.bundle.store import Bundle, BundleError, load_bundle
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.engine.runners.malloc import return_freed_memory
from adafocus.service.errors import BadBundle, Draining, Overloaded, Problem, UnknownModel
from adafocus.service.models.version import LoadedVersion, Model
from adafocus.service.runtime import Runtime
from adafocus.service.telemetry.definitions import VersionOutcome

MAX_RETIRING = 2
"""Old versions of one model that may still answer requests; a further version is not loaded until one has ended."""

OpenModel = Callable[[Bundle], AbstractAsyncContextManager[Runtime]]
FindBundles = Callable[[], Mapping[str, Path]]

logger = logging.getLogger("adafocus.models")


class ModelObserver(Protocol):
    """Receives what happens to models; metrics implement it."""

    def model_added(self, name: str) -> None:
        """Take in a model, before its first version is loaded."""

    def model_version_changed(self, name: str, outcome: VersionOutcome) -> None:
        """Count a version that was ``loaded``, ``unloaded`` or ``refused``."""


class Models:
    """All models of a service, by name.

    Args:
        bundles: those that are served from the start, verified, with the names that they are served under.
        default: name of the model of requests that name none.
        find: returns the folder of each bundle that may be loaded.
        observer: told what happens.
    """

    def __init__(self, bundles: Iterable[Bundle], default: str, find: FindBundles, observer: ModelObserver) -> None:
        self._models = {bundle.manifest.name: Model(bundle) for bundle in bundles}
        self.default = default
        self._find = find
        self._observer = observer
        self._open: OpenModel | None = None
        self._one_at_a_time = asyncio.Lock()
        for name in self._models:
            observer.model_added(name)

    def __iter__(self) -> Iterator[Model]:
        """All models, sorted by name."""
        return iter([self._models[name] for name in sorted(self._models)])

    @property
    def ready(self) -> bool:
        """Whether every model that should be loaded can answer."""
        wanted = [model for model in self._models.values() if model.wanted]
        return bool(wanted) and all(model.alive for model in wanted)

    def of(self, name: str | None) -> Model:
        """The model of that name, loaded or not; the default one for None.

        Raises:
            UnknownModel: there is none.
        """
        model = self._models.get(self.default if name is None else name)
        if model is None:
            known = ", ".join(sorted(self._models))
            raise UnknownModel(f"there is no model {str(name)[:64]!r}; this service has {known}")
        return model

    def version_of(self, name: str | None) -> LoadedVersion:
        """The version that answers requests for a model now.

        Raises:
            UnknownModel: there is no such model, or it has been unloaded.
            Draining: it is being loaded, or its engine is being started again.
        """
        model = self.of(name)
        if model.version is None and not model.wanted:
            loaded = ", ".join(sorted(name for name, model in self._models.items() if model.version)) or "none"
            raise UnknownModel(f"the model {model.manifest.name!r} is not loaded; loaded: {loaded}")
        if model.version is None or not model.version.runtime.engine.alive:
            raise Draining
        return model.version

    @asynccontextmanager
    async def serving(self, open_model: OpenModel) -> AsyncIterator[None]:
        """Load all models, and close all at the end of the block.

        Raises:
            BundleError: a bundle cannot be served together with the others.
            RunnerError: a backend does not exist or cannot run here.
        """
        self._open = open_model
        try:
            for model in self:
                await self._load(model, model.bundle)
            yield
        finally:
            self._open = None
            await self._close()

    async def load(self, name: str) -> Manifest:
        """Load the newest version of a model, or a model that is not loaded; returns once requests go to it.

        Raises:
            UnknownModel: there is no bundle of that name.
            BadBundle: it cannot be loaded; what was loaded before goes on.
            Overloaded: old versions still answer requests.
            Draining: the service is starting or shutting down.
        """
        async with self._one_at_a_time:
            folder = await asyncio.to_thread(self._folder, name)
            model = self._models.get(name)
            if model is not None and len(model.retiring) >= MAX_RETIRING:
                raise Overloaded(f"{len(model.retiring)} old versions of {name} still answer requests", retry_after=5)
            try:
                bundle = served_as(await asyncio.to_thread(load_bundle, folder), name)
                if model is None:
                    self._observer.model_added(name)
                    model = Model(bundle, wanted=False)
                await self._load(model, bundle)
            except Problem:
                raise
            except Exception as error:
                raise self._refused(name, model, folder, error) from error
            self._models[name] = model
            return model.manifest

    async def unload(self, name: str) -> None:
        """Send no more requests to a model, and close it once it has answered those that it has.

        Raises:
            UnknownModel: there is no such model.
        """
        async with self._one_at_a_time:
            model = self.of(name)
            model.wanted = False
            if model.version is not None:
                self._observer.model_version_changed(name, "unloaded")
                logger.info("a model is unloaded", extra={"fields": _named(model.manifest)})
                self._retire(model)

    async def drained(self, name: str) -> None:
        """Wait until the old versions of a model are closed."""
        await asyncio.gather(*self.of(name).retiring)

    async def watch(self, seconds: float) -> None:
        """Look for new bundles and new versions again and again, and load them.

        Args:
            seconds: between two looks.
        """
        detector = ChangeDetector(await asyncio.to_thread(self._look))
        while True:
            await asyncio.sleep(seconds)
            for name in detector.changed(await asyncio.to_thread(self._look)):
                try:
                    await self.load(name)
                except Overloaded:
                    detector.known.pop(name, None)  # later
                except Problem as problem:
                    fields = {"model": name, "reason": problem.detail}
                    logger.info("a bundle that has changed is not served", extra={"fields": fields})

    def _look(self) -> dict[str, Fingerprint]:
        try:
            return {name: fingerprint(folder) for name, folder in self._find().items()}
        except BundleError:
            return {}

    def _folder(self, name: str) -> Path:
        try:
            folder = self._find().get(name) if NAME.fullmatch(name) or name in self._models else None
        except BundleError as error:
            raise BadBundle("the folder of bundles cannot be read") from error
        if folder is None:
            raise UnknownModel(
                f"there is no bundle {name[:64]!r} to load; a bundle is a folder in the folder of bundles"
            )
        return folder

    async def _load(self, model: Model, bundle: Bundle) -> None:
        """Load a bundle beside what answers now, and let it take its place."""
        if self._open is None:
            raise Draining
        async with AsyncExitStack() as opening:
            runtime = await opening.enter_async_context(self._open(bundle))
            if self._open is None:  # the service has ended meanwhile
                raise Draining
            version = LoadedVersion(runtime, opening.pop_all())
        before = model.manifest
        replaces = model.version is not None
        if replaces:
            self._retire(model)
        model.bundle, model.version, model.wanted, model.error = bundle, version, True, ""
        fields = _named(bundle.manifest) | ({"replaces": before.version} if replaces else {})
        self._observer.model_version_changed(bundle.manifest.name, "loaded")
        logger.info("a model is loaded", extra={"fields": fields})

    def _retire(self, model: Model) -> None:
        """Close the version that answered until now, after its last request."""
        version, model.version = model.version, None
        if version is None:
            return
        named = _named(model.manifest)

        async def end() -> None:
            try:
                await version.drain()
            finally:
                await version.close()
            gc.collect()  # an engine and its client refer to each other
            await asyncio.to_thread(return_freed_memory)
            logger.info("an old version of a model is closed", extra={"fields": named})

        task = asyncio.create_task(end())
        model.retiring.add(task)
        task.add_done_callback(model.retiring.discard)

    def _refused(self, name: str, model: Model | None, folder: Path, error: Exception) -> BadBundle:
        expected = isinstance(error, BundleError | RunnerError)
        # Callers need not know where the folder is, nor what went wrong inside.
        text = str(error).replace(str(folder), name) if expected else f"{name} could not be loaded; the log says why"
        goes_on = model is not None and model.version is not None
        if model is not None:
            model.error = text
        self._observer.model_version_changed(name, "refused")
        version = model.manifest.version if model is not None and goes_on else None
        fields = {"model": name, "reason": str(error), "version_that_goes_on": version}
        logger.error("a bundle is refused", extra={"fields": fields}, exc_info=None if expected else error)
        return BadBundle(f"{text}; version {version} goes on" if goes_on else text)

    async def _close(self) -> None:
        for model in self._models.values():
            for task in model.retiring:
                task.cancel()
            await asyncio.gather(*model.retiring, return_exceptions=True)
            version, model.version = model.version, None
            if version is not None:
                await version.close()


def served_as(bundle: Bundle, name: str) -> Bundle:
    """The bundle with the name that it is served under in its manifest, so that answers and metrics show it."""
    return Bundle(bundle.path, bundle.manifest.model_copy(update={"name": name}))


def _named(manifest: Manifest) -> dict[str, object]:
    return {"model": manifest.name, "version": manifest.version}
