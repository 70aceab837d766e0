"""Reading recipes from TOML: those in ``configs/``, which come with the program, and any file of the same form.

A file may say ``inherits = NAME|FILE``: what it does not say itself is taken from there, table by table and key by key.
A file is looked for beside the one that names it. With a list of names, the first recipe whose ImageNet weights are
installed is taken, else the last.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adafocus.training.errors import RecipeError
from adafocus.training.optimise.pretrained import missing_packages
from adafocus.training.recipe import Recipe, parse_recipe, with_current_names

CONFIGS = Path(__file__).parent / "configs"


def known_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the program, without those that exist to be inherited from."""
    return tuple(sorted(file.stem for file in CONFIGS.glob("*.toml") if not file.stem.startswith("_")))


def load_recipe(name_or_file: str) -> Recipe:
    """A recipe by the name of one in ``configs/`` or by the path of a TOML file.

    Raises:
        RecipeError: there is none, or it cannot be used; the message says what is permitted.
    """
    path = _recipe_path(name_or_file, Path())
    return parse_recipe({"name": path.stem, **_resolved(path, ())})


def _resolved(path: Path, inheriting: tuple[Path, ...]) -> dict[str, Any]:
    """Return the content of a file, merged over the files that it inherits from.

    Args:
        path: of the file.
        inheriting: the files that inherit from it, directly or not.
    """
    if path in inheriting:
        raise RecipeError(f"{path.name} inherits from itself")
    content = _read(path)
    parents = content.pop("inherits", None)
    if parents is None:
        return content
    names = parents if isinstance(parents, list) else [parents]
    if not names:
        raise RecipeError(f"inherits of {path.name} is empty; permitted: a recipe's name or file, or a list of them")
    found: dict[str, Any] = {}
    for name in names:
        found = _resolved(_recipe_path(str(name), path.parent), (*inheriting, path))
        if not _missing(found):
            break
    return _over(found, content)


def _missing(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Packages that a recipe needs and that are not installed."""
    if not content.get("pretrained"):
        return ()
    networks = [content.get("model", {}).get(part, {}) for part in ("glance", "focus")]
    return missing_packages(str(network.get("name")) for network in networks)


def _recipe_path(name_or_file: str, beside: Path) -> Path:
    path = Path(name_or_file)
    return beside / path if path.suffix == ".toml" else CONFIGS / f"{name_or_file}.toml"


def _read(path: Path) -> dict[str, Any]:
    try:
        return with_current_names(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        name = path.stem if path.parent == CONFIGS else str(path)
        raise RecipeError(
            f"there is no recipe {name!r}; give the path of a .toml file or one of {', '.join(known_recipes())}"
        ) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise RecipeError(f"{path.name} is not TOML: {error}") from error


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``own`` over ``base``: the tables of a recipe key by key, everything else as a whole."""
    tables = {key: {**base[key], **own[key]} for key in base.keys() & own.keys() if isinstance(base[key], Mapping)}
    return {**base, **own, **tables}
