"""The answers that the service makes are those of the schemas, and so is their JSON."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.schemas.answer import Answer, unchecked
from adafocus.service.schemas.classify import (
    Classification,
    ComputeAnswer,
    EventAnswer,
    ExitAnswer,
    ModelAnswer,
    PatchAnswer,
    Prediction,
    SegmentAnswer,
    StepEvent,
    StepImage,
    TimingAnswer,
    TraceEntry,
    VideoAnswer,
)

SCHEMAS = (Classification, ComputeAnswer, EventAnswer, ExitAnswer, ModelAnswer, PatchAnswer, Prediction)
SCHEMAS += (SegmentAnswer, StepEvent, StepImage, TimingAnswer, TraceEntry, VideoAnswer)

numbers, counts, words = st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 1 << 40), st.text()


def filled(schema: type[Answer]) -> st.SearchStrategy[Answer]:
    """Any answer of a schema that is right."""
    known = {"predictions": st.lists(filled_of(Prediction), max_size=3), "trace": optional_list(TraceEntry)}
    known |= {"segments": optional_list(SegmentAnswer), "events": optional_list(EventAnswer)}
    known |= {"reason": st.just("confident"), "component": st.sampled_from(["glance", "focus"])}
    fields = {}
    for name, field in schema.model_fields.items():
        kind = str(field.annotation)
        if name in known:
            fields[name] = known[name]
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Answer):
            fields[name] = filled_of(field.annotation)
        else:
            value = (
                words if "str" in kind else numbers if "float" in kind else counts if "int" in kind else st.booleans()
            )
            if "StepImage" in kind:
                value = filled_of(StepImage)
            fields[name] = st.none() | value if "None" in kind else value
    return st.builds(schema, **fields)


def filled_of(schema: type[Answer]) -> st.SearchStrategy[Answer]:
    return st.deferred(lambda: filled(schema))


def optional_list(schema: type[Answer]) -> st.SearchStrategy[list[Answer] | None]:
    return st.none() | st.lists(filled_of(schema), max_size=2)


def shown(value: object) -> object:
    """What the JSON of an answer has to hold, from pydantic's own serialisation."""
    if isinstance(value, list):
        return [shown(item) for item in value]
    if not isinstance(value, Answer):
        return value
    fields = {name: getattr(value, name) for name in type(value).model_fields}
    return {n: shown(v) for n, v in fields.items() if v is not None or n not in value.left_out_if_none}


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__name__)
def test_an_unchecked_answer_is_the_checked_one_and_its_json_is_that_of_the_schema(schema: type[Answer]) -> None:
    assert set(schema.left_out_if_none) <= set(schema.model_fields)

    @given(answer=filled(schema))
    def check(answer: Answer) -> None:
        made = unchecked(schema)(**dict(answer))
        assert made == answer
        assert made.model_dump_json() == answer.model_dump_json()
        assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made.model_copy() == answer  # noqa: S301
        told = json.loads(made.json_bytes())
        assert told == shown(answer) == json.loads(answer.to_json())
        assert list(told) == [name for name in schema.model_fields if name in told]
        assert schema.model_validate_json(made.to_json()) == answer

    check()


def test_fields_that_are_not_given_have_their_defaults() -> None:
    made = unchecked(Prediction)(label="up", index=1, score=0.5)
    assert made == Prediction(label="up", index=1, score=0.5)
    assert made.to_json() == '{"label":"up","index":1,"score":0.5}'


def test_an_answer_holds_nothing_but_answers_and_json() -> None:
    made = unchecked(Prediction)(label=object(), index=1, score=0.5)  # type: ignore[arg-type] # on purpose
    with pytest.raises(TypeError, match="a value of the type object"):
        made.to_json()
