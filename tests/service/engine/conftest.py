"""Every test of the engine runs with its core in this process and with its core behind a socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.engine.factory import Transports


@pytest.fixture(scope="module", params=Transports.every)
def transport(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the core is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transports, "used", request.param)
        yield request.param
