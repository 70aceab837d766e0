"""Recipes: strict parsing, and every one that comes along can be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import RecipeError
from training.recipe import CONFIGS, load_recipe, parse_recipe

MODEL = {"steps": 4, "frame_size": 64, "patch_size": 32}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.toml")))
def test_shipped_recipes_parse_and_come_back(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert parse_recipe(recipe.to_dict()) == recipe


def test_a_recipe_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seed = 7\n[model]\nsteps = 4\nframe_size = 64\npatch_size = 32\n")
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert (recipe.name, recipe.seed, recipe.remedies.diversity) == ("mine", 7, True)
    assert recipe.with_options(seed=3, fold=None).seed == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sed": 1}, "recipe has no 'sed'"),
        ({"data": {"flop": 1}}, "data has no 'flop'; permitted: .*flip"),
        ({"data": {"flip": 2}}, "data.flip is 2; permitted: 0 to 1"),
        ({"data": {"scales": []}}, "data.scales is empty"),
        ({"data": {"resize": 32}}, "frame_size 64 must not exceed data.resize 32"),
        ({"optimiser": {"lr": "fast"}}, "optimiser.lr is 'fast'"),
        ({"optimiser": {"epochs": True}}, "optimiser.epochs is True"),
        ({"model": {"kind": "clip", "steps": 1}}, "only frame models"),
        ({"model": {"steps": 0}}, "model: steps is 0"),
        ({"held_aside": 0.9}, "held_aside is 0.9"),
        ({"held_aside": 0.2, "fold": 5}, "fold is 5; permitted: 0 to 4"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe({"name": "x", "model": MODEL, **change})


def test_unknown_names_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no recipe 'nonsense'.*tank_state"):
        load_recipe("nonsense")
    (tmp_path / "bad.toml").write_text("= 1")
    with pytest.raises(RecipeError, match=r"bad\.toml is not TOML"):
        load_recipe(str(tmp_path / "bad.toml"))
    with pytest.raises(RecipeError, match="missing"):
        parse_recipe({"name": "x"})
