"""The state of the service: starting, ready, draining, rejecting."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from adafocus.bundle.store import load_bundle
from adafocus.service.errors import Draining
from adafocus.service.http.auth import AccessControl
from adafocus.service.http.state import ServerState
from adafocus.service.runtime import Runtime
from adafocus.service.telemetry.metrics import Metrics
from tests.service.server import make_settings


class Engine:
    alive = True


class LoadedRuntime:
    engine = Engine()


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
    return ServerState(settings, load_bundle(settings.bundle), Metrics(steps=4), AccessControl(settings))


def test_a_service_that_starts_is_not_ready_and_has_no_runtime(state: ServerState) -> None:
    with pytest.raises(Draining):
        state.check_ready()
    with pytest.raises(Draining):
        state.require_runtime()
    state.runtime = cast("Runtime", LoadedRuntime())
    state.check_ready()
    assert state.require_runtime() is state.runtime


def test_draining_is_unready_first_and_rejects_after_the_grace_period(state: ServerState) -> None:
    state.runtime = cast("Runtime", LoadedRuntime())
    loop, drained = Loop(), []
    state.drain(cast("asyncio.AbstractEventLoop", loop), lambda: drained.append(True))
    assert not state.ready
    assert state.require_runtime() is state.runtime
    ((seconds, end_grace_period),) = loop.later
    assert seconds == 7
    assert not drained
    end_grace_period()
    assert drained
    with pytest.raises(Draining):
        state.require_runtime()


def test_an_engine_that_has_stopped_makes_the_service_unready(state: ServerState) -> None:
    runtime = LoadedRuntime()
    runtime.engine = Engine()
    runtime.engine.alive = False
    state.runtime = cast("Runtime", runtime)
    assert not state.ready
