"""The check that a number of a recipe lies in its range."""

from __future__ import annotations

from adafocus.training.errors import RecipeError


def within(name: str, value: float, low: float, high: float) -> None:
    """Accept a number from low to high.

    Raises:
        RecipeError: it is no number, or out of range; the message names it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RecipeError(f"{name} is {value!r}; permitted: {low:g} to {high:g}")
