"""The base of the schemas of answers: checked where others send them, made and serialised quickly here.

The schemas are pydantic's, which describe themselves in OpenAPI and check what a client has received. The service makes
one answer after the other from its own numbers, whose types the type checker knows: checking the dozen objects of an
answer and serialising them with exclusions took longer than everything else about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

import msgspec
from pydantic import BaseModel, ConfigDict

Arguments = ParamSpec("Arguments")
Model = TypeVar("Model", bound="Answer")


class Answer(BaseModel):
    """A part of an answer; cannot be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    left_out_if_none: ClassVar[tuple[str, ...]] = ()
    """Fields that its JSON does not have where they are None. All others are null then."""

    def to_json(self) -> str:
        """Serialise to JSON, with the fields in the order of the schema."""
        return _encode(self).decode()

    def json_bytes(self) -> bytes:
        """`to_json` in UTF-8."""
        return _encode(self)

    def json_fields(self) -> dict[str, object]:
        """The members of its JSON, which may be other answers."""
        fields, optional = self.__dict__, self.left_out_if_none
        if not optional:
            return fields
        return {name: value for name, value in fields.items() if value is not None or name not in optional}


def unchecked(model: Callable[Arguments, Model]) -> Callable[Arguments, Model]:
    """Return a constructor with the same arguments, which does not check them: the service's own values are right.

    Args:
        model: a schema without aliases and validators.
    """
    schema = cast("type[Model]", model)
    missing = dict.fromkeys(schema.model_fields)  # in the order of the schema
    missing |= {name: field.default for name, field in schema.model_fields.items() if not field.is_required()}
    names = set(schema.model_fields)
    new, put = schema.__new__, object.__setattr__

    def make(*_: Arguments.args, **values: Arguments.kwargs) -> Model:
        made = new(schema)
        put(made, "__dict__", {**missing, **values})
        put(made, "__pydantic_fields_set__", names)
        put(made, "__pydantic_extra__", None)
        put(made, "__pydantic_private__", None)
        return made

    return make


def _members(value: Any) -> dict[str, object]:
    """What msgspec serialises for an object that it does not know."""
    if isinstance(value, Answer):
        return value.json_fields()
    raise TypeError(f"an answer holds a value of the type {type(value).__name__}, which JSON has not")


_encode = msgspec.json.Encoder(enc_hook=_members).encode
