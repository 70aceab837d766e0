"""Validation of query parameters for a bundle, and the order of the answer's fields."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.errors import BadParameter
from adafocus.service.schemas.classify import (
    Classification,
    ComputeAnswer,
    ExitAnswer,
    ModelAnswer,
    PatchAnswer,
    Prediction,
    TimingAnswer,
    TraceEntry,
    VideoAnswer,
)
from adafocus.service.schemas.parameters import PARAMETERS, Parameters, parse_parameters
from tests.bundle.factory import make_manifest

MANIFEST = make_manifest()


def make_answer(**changes: object) -> Classification:
    fields: dict[str, object] = {
        "id": "0f8c",
        "model": ModelAnswer(name="toy", version="1", precision="fp32", backend="fake"),
        "predictions": [Prediction(label="up", index=0, score=0.93)],
        "exit": ExitAnswer(
            point="balanced", reason="confident", step=2, steps=4, component="focus", confidence=0.93, threshold=0.88
        ),
        "compute": ComputeAnswer(
            gflops=6.7,
            gflops_full=27.0,
            glance_gflops=1.3,
            focus_gflops=5.4,
            frames_used=4,
            frames_decoded=61,
            decode_cpu_ms=8.7,
        ),
        "timing_ms": TimingAnswer(total=41.0, upload=2.0, queue=0.3, decode=9.1, glance=7.0, focus=21.9),
        "video": VideoAnswer(
            container="mp4", codec="h264", width=640, height=360, fps=None, duration_s=9.8, frames=245
        ),
    }
    return Classification.model_validate({**fields, **changes})


def refusal(*pairs: tuple[str, str]) -> str:
    with pytest.raises(BadParameter) as caught:
        parse_parameters(pairs, MANIFEST)
    return caught.value.detail


def test_nothing_asked_means_the_bundles_defaults() -> None:
    assert parse_parameters([], MANIFEST) == Parameters(exit="balanced", top_k=3)


def test_everything_asked() -> None:
    pairs = {"exit": "full", "top_k": "1", "max_gflops": "0.02", "max_decode_ms": "7.5", "deadline_ms": "40.5"}
    expected = Parameters("full", 1, max_gflops=0.02, max_decode_ms=7.5, deadline_ms=40.5, trace=True)
    assert parse_parameters([*pairs.items(), ("trace", "true")], MANIFEST) == expected


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("exit", "fastest", "full, balanced"),
        ("exit", "", "full, balanced"),
        ("top_k", "0", "1 to 3"),
        ("top_k", "4", "1 to 3"),
        ("top_k", "2.0", "1 to 3"),
        ("top_k", "٢", "1 to 3"),
        ("top_k", "9" * 5000, "1 to 3"),
        ("max_gflops", "0.004", "from 0.005"),
        ("max_gflops", "nan", "from 0.005"),
        ("max_gflops", "-1", "from 0.005"),
        ("max_decode_ms", "0.5", "from 1 to"),
        ("max_decode_ms", "nan", "from 1 to"),
        ("deadline_ms", "0", "from 1 to"),
        ("deadline_ms", "inf", "from 1 to"),
        ("deadline_ms", "1_000", "from 1 to"),
        ("trace", "yes", "true or false"),
    ],
)
def test_a_value_out_of_range_is_told_what_is_allowed(name: str, value: str, allowed: str) -> None:
    text = refusal((name, value))
    assert name in text
    assert allowed in text
    assert len(text) < 200


@pytest.mark.parametrize("name", ["steps", "Exit", "", "x" * 5000])
def test_an_unknown_parameter_is_named_beside_the_known_ones(name: str) -> None:
    text = refusal((name, "true"))
    assert name[:40] in text
    assert all(known in text for known in PARAMETERS)


def test_a_repeated_parameter_is_refused() -> None:
    assert "exit is given more than once" in refusal(("exit", "full"), ("exit", "full"))


@given(st.lists(st.tuples(st.sampled_from([*PARAMETERS, "other"]), st.text(max_size=12))))
def test_any_query_is_parsed_or_refused_in_one_line(pairs: list[tuple[str, str]]) -> None:
    try:
        ask = parse_parameters(pairs, MANIFEST)
    except BadParameter as problem:
        assert "\n" not in problem.detail
    else:
        assert 1 <= ask.top_k <= len(MANIFEST.labels)
        assert MANIFEST.point(ask.exit)


def test_fields_come_in_the_documented_order() -> None:
    patch = PatchAnswer(x=88, y=40, width=180, height=180)
    step = TraceEntry(step=1, frame=122, time_s=4.88, patch=patch, label="up", confidence=0.41)
    answer = json.loads(make_answer(trace=[step]).to_json())
    assert list(answer) == ["id", "model", "predictions", "exit", "compute", "timing_ms", "video", "trace"]
    assert list(answer["model"]) == ["name", "version", "precision", "backend"]
    assert list(answer["predictions"][0]) == ["label", "index", "score"]
    assert list(answer["exit"]) == [
        "point",
        "degraded_from",
        "reason",
        "step",
        "steps",
        "component",
        "confidence",
        "threshold",
    ]
    assert list(answer["compute"]) == [
        "gflops",
        "gflops_full",
        "glance_gflops",
        "focus_gflops",
        "frames_used",
        "frames_decoded",
        "decode_cpu_ms",
    ]
    assert list(answer["timing_ms"]) == ["total", "upload", "queue", "decode", "glance", "focus"]
    assert list(answer["video"]) == ["container", "codec", "width", "height", "fps", "duration_s", "frames"]
    assert list(answer["trace"][0]) == ["step", "frame", "time_s", "patch", "label", "confidence", "component"]


def test_no_trace_unless_asked_but_unknown_facts_are_null() -> None:
    answer = json.loads(make_answer().to_json())
    assert "trace" not in answer
    assert answer["video"]["fps"] is None
