"""Fixtures that all tests share: the paths of optional material, small real clips, and every tolerance."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

# No test asserts a time, so no example of a property test has a deadline: the machine may have other work to do.
settings.register_profile("adafocus", parent=settings(), deadline=None)
settings.load_profile("adafocus")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Optional material beside the project that a clone may lack; a test that needs it is skipped by name."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared, which this clone does not have")
    return SHARED


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout."""
    return ROOT
