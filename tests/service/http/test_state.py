"""The state of the service: starting, ready, draining, rejecting."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from adafocus.service.engine.admission import Admission
from adafocus.service.errors import Draining
from adafocus.service.http.auth import AccessControl
from adafocus.service.http.state import ServerState
from adafocus.service.models.version import LoadedVersion
from adafocus.service.runtime import Runtime
from adafocus.service.telemetry.metrics import Metrics
from tests.service.engine.factory import Recorder
from tests.service.server import make_models, make_settings


class Engine:
    alive = True


class LoadedRuntime:
    engine = Engine()


def load(state: ServerState, runtime: LoadedRuntime) -> LoadedVersion:
    """Have a model loaded that is no model."""
    version = LoadedVersion(cast("Runtime", runtime), AsyncExitStack())
    state.models.of(None).version = version
    state.admission = Admission(1, 1, Recorder(), lambda: 0.0)
    return version


class Loop:
    """Keeps what it is asked to call."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Any]] = []

    def call_soon_threadsafe(self, callback: Any, *arguments: Any) -> None:
        callback(*arguments)

    def call_later(self, seconds: float, callback: Any) -> None:
        self.later.append((seconds, callback))


@pytest.fixture
def state(tmp_path: Path) -> ServerState:
    settings = make_settings(tmp_path, drain_grace_seconds=7)
    metrics = Metrics(steps=4)
    return ServerState(settings, make_models(settings, metrics), metrics, AccessControl(settings))


def test_a_service_that_starts_is_not_ready_and_has_no_runtime(state: ServerState) -> None:
    with pytest.raises(Draining):
        state.check_ready()
    with pytest.raises(Draining):
        state.version_of(None)
    version = load(state, LoadedRuntime())
    state.check_ready()
    assert state.version_of(None) is version
    assert state.runtime is version.runtime


def test_draining_is_unready_first_and_rejects_after_the_grace_period(state: ServerState) -> None:
    version = load(state, LoadedRuntime())
    loop, drained = Loop(), []
    state.drain(cast("asyncio.AbstractEventLoop", loop), lambda: drained.append(True))
    assert not state.ready
    assert state.version_of(None) is version
    ((seconds, end_grace_period),) = loop.later
    assert seconds == 7
    assert not drained
    end_grace_period()
    assert drained
    with pytest.raises(Draining):
        state.version_of(None)


def test_an_engine_that_has_stopped_makes_the_service_unready(state: ServerState) -> None:
    runtime = LoadedRuntime()
    runtime.engine = Engine()
    runtime.engine.alive = False
    load(state, runtime)
    assert not state.ready
