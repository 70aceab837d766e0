"""Every test of the engine runs with its core in this process, without and with a thread that waits for the device, and
with its core behind a socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.engine import transport as in_process
from tests.service.engine.factory import Transports


@pytest.fixture(scope="module", params=Transports.every)
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the core is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transports, "used", request.param)
        if request.param == "two threads":
            patch.setattr(in_process, "LARGE_STEP_FLOPS", 0)
        yield request.param
