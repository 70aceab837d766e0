"""Video classification that spends only the compute that an answer needs (AdaFocusV2, Wang et al., CVPR 2022).

The subpackages are links to the folders beside this one, so that the installed package has one top-level name and the
checkout keeps its folders: `adafocus.model`, `adafocus.training` and `adafocus.export` need torch; `adafocus.video`,
`adafocus.bundle`, `adafocus.service` and `adafocus.cli` do not.
"""

from __future__ import annotations


def __getattr__(name: str) -> str:
    """Return ``__version__``. It is read on demand, because a decode worker imports this package on every start."""
    if name == "__version__":
        from importlib.metadata import version

        return version("adafocus")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
