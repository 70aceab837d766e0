"""The header fields of a request as a dictionary: every field is looked up once or more, and a list is searched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.types import Scope


class Head:
    """The fields of a request's head by their lower-case names. Of several with one name, `get` returns the first.

    Args:
        raw: names and values as in an ASGI scope, the names in lower case.
    """

    __slots__ = ("_first", "_raw")

    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        self._raw = raw
        self._first = {name: value.decode("latin-1") for name, value in reversed(raw)}

    def get(self, name: bytes, default: str = "") -> str:
        """The first value of a field."""
        return self._first.get(name, default)

    def all(self, name: bytes) -> Iterable[str]:
        """Every value of a field, in the order in which they came."""
        if name not in self._first:
            return ()
        return [value.decode("latin-1") for field, value in self._raw if field == name]

    def __contains__(self, name: object) -> bool:
        return name in self._first


def head_of(scope: Scope) -> Head:
    """The head of a request, made once for all who read it."""
    state = scope.setdefault("state", {})
    head = state.get("head")
    if not isinstance(head, Head):
        head = state["head"] = Head(scope["headers"])
    return head
