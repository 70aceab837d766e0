"""Video classification that spends only the compute that an answer needs (AdaFocusV2, Wang et al., CVPR 2022).

The subpackages are links to the folders beside this one, so that the installed package has one top-level name and the
checkout keeps its folders: `adafocus.model`, `adafocus.training` and `adafocus.export` need torch; `adafocus.video`,
`adafocus.bundle`, `adafocus.service` and `adafocus.cli` do not. `Client` and `AsyncClient` call a running service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adafocus.client import AsyncClient, Client

    __version__: str

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    """Load what is asked for: a decode worker imports this package on every start and needs none of it."""
    if name == "__version__":
        from importlib.metadata import version

        return version("adafocus")
    if name in ("AsyncClient", "Client"):
        from adafocus import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
