from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adafocus.bundle.exit_rule import confidence, probabilities
from adafocus.bundle.guarantee import Guarantee
from adafocus.bundle.manifest import Flops, FlopsPart, FrameGeometry, Manifest, OperatingPoint, Reduced, Sampling
from adafocus.bundle.signature import check_signatures
from tests.bundle.factory import make_clip_manifest, make_manifest


def full(steps: int = 4, threshold: float | None = None) -> OperatingPoint:
    return OperatingPoint(name="full", thresholds=(threshold,) * steps, expected_gflops=1.0)


def reduced(*points: OperatingPoint) -> Reduced:
    return Reduced(
        precision="int8",
        data="toy clips",
        clips=10,
        accuracy=0.9,
        accuracy_fp32=0.9,
        agreement=1.0,
        exit_step_shift={"full": 0.0, "balanced": -0.1},
        operating_points=points,
    )


@pytest.mark.parametrize("make", [make_manifest, make_clip_manifest])
def test_a_manifest_survives_json(make: Callable[[], Manifest]) -> None:
    manifest = make()
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    check_signatures(manifest)


def test_flops_of_a_whole_video() -> None:
    manifest = make_manifest()
    assert manifest.flops.per_step == 5_000_000
    assert manifest.flops_full == 20_000_000
    assert manifest.paper_flops_full == 20_400_000


def test_parts_of_the_flops_must_add_up() -> None:
    parts = (
        FlopsPart(name="glance network", flops=100, component="glance"),
        FlopsPart(name="focus network", flops=200, component="focus"),
        FlopsPart(name="auxiliary heads", flops=7),
    )
    flops = Flops(glance=100, focus=200, paper_per_step=307, convention="c", parts=parts)
    assert sum(part.flops for part in flops.parts if part.component) == flops.per_step
    with pytest.raises(ValidationError, match="do not add up"):
        Flops(glance=100, focus=201, paper_per_step=307, convention="c", parts=parts)


def test_thresholds_become_plain_numbers_and_the_last_step_always_answers() -> None:
    assert make_manifest().threshold_row("balanced") == (0.9, 0.8, math.inf, -math.inf)
    assert make_manifest().threshold_row("full") == (math.inf, math.inf, math.inf, -math.inf)
    with pytest.raises(KeyError):
        make_manifest().threshold_row("fastest")


def test_a_precision_is_served_with_its_own_thresholds() -> None:
    shy = OperatingPoint(name="balanced", thresholds=(0.8, 0.7, None, None), expected_gflops=0.01)
    manifest = make_manifest(reduced=(reduced(full(), shy),))
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest
    assert manifest.served_in("int8").threshold_row("balanced") == (0.8, 0.7, math.inf, -math.inf)
    assert manifest.served_in("fp16") is manifest


def test_a_manifest_from_before_there_were_precisions_is_read() -> None:
    older = make_manifest().model_dump(mode="json")
    del older["reduced"]
    assert Manifest.model_validate(older) == make_manifest()


def test_graphs_are_found_by_component_format_and_precision() -> None:
    manifest = make_manifest()
    glance = manifest.graph("glance", "onnx", "fp32")
    assert (glance.width("policy_state"), glance.width("step"), glance.width("glance_feature")) == (6, 0, 8)
    with pytest.raises(KeyError, match="focus as torchscript fp32"):
        manifest.graph("focus", "torchscript", "fp32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "a", "b")}, "labels must be distinct"),
        ({"labels": ("alone",)}, "at least 2 items"),
        ({"patch_size": 33}, "patch_size 33 must not exceed crop 32"),
        ({"steps": 5}, "a frame model has one step per sampled frame: 5 != 4"),
        ({"default_point": "fast"}, "operating point 'fast' is missing; there are full, balanced"),
        ({"operating_points": (full(), full()), "default_point": "full"}, "distinct names"),
        ({"operating_points": (full(3),), "default_point": "full"}, "'full' needs 4 thresholds, got 3"),
        ({"operating_points": (full(4, 0.5),), "default_point": "full"}, "'full' must be null"),
        (
            {"sampling": {"frames": 4, "order": [0, 1, 2, 3], "focus_frames": 6}},
            "a frame model samples no focus_frames, got 6",
        ),
        ({"kind": "clip"}, "a clip model has one step"),
        ({"name": "../up"}, "String should match pattern"),
        ({"temperature": 0.0}, "greater than or equal to 0.001"),
        ({"temperature": math.inf}, "finite number"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"reduced": (reduced(full()),)}, "int8 needs the operating points full, balanced, in this order"),
        (
            {"operating_points": (full(),), "default_point": "full", "reduced": (reduced(full(3)),)},
            "operating point of int8 needs 4 thresholds",
        ),
        (
            {"operating_points": (full(),), "default_point": "full", "reduced": (reduced(full()),) * 2},
            "each precision only once",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_manifest(**changes)


def test_geometry_and_sampling_are_checked() -> None:
    with pytest.raises(ValidationError, match="crop 40 must not exceed resize 36"):
        FrameGeometry(resize=36, crop=40)
    with pytest.raises(ValidationError, match="order must visit each of the 3 sampled frames once"):
        Sampling(frames=3, order=(0, 1, 1))


@given(st.permutations(range(6)))
def test_any_permutation_is_an_order(order: list[int]) -> None:
    assert Sampling(frames=6, order=tuple(order)).order == tuple(order)


def test_the_chance_to_go_on_is_of_those_who_got_there() -> None:
    manifest = make_manifest()
    assert manifest.continuation_row("full") == (1.0, 1.0, 1.0, 1.0)
    assert manifest.continuation_row("balanced") == pytest.approx((0.7, 4 / 7, 1.0, 0.0))


@pytest.mark.parametrize("shares", [(0.5, 0.5), (-1.0, 2.0, 0.0, 0.0), (0.5, 0.1, 0.1, 0.1)])
def test_exit_shares_are_shares_of_every_step(shares: tuple[float, ...]) -> None:
    content = make_manifest().model_dump(mode="json")
    content["operating_points"][0]["exit_shares"] = shares
    with pytest.raises(ValidationError, match="must be 4 shares that add up to 1"):
        Manifest.model_validate(content)


@pytest.mark.parametrize("temperature", [1e-300, 0.0, -1.0, 1e9])
def test_a_temperature_is_one_that_float32_can_divide_by(temperature: float) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        Manifest.model_validate(make_manifest().model_dump(mode="json") | {"temperature": temperature})


def test_a_manifest_without_temperatures_of_its_steps_judges_as_before() -> None:
    manifest = make_manifest(temperature=1.7)
    logits = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    before = confidence(logits, "max_softmax", 1.7)
    assert manifest.exit_rule.of_all_steps(logits).tobytes() == before.tobytes()
    steps = np.array([3, 0, 1, 1, 2])
    rows = manifest.exit_rule.confidence(logits[:, 0], steps)
    assert rows.tobytes() == before[:, 0].tobytes()
    assert manifest.exit_rule.probabilities(logits[0, 0], 2).tobytes() == probabilities(logits[0, 0], 1.7).tobytes()


def test_each_step_has_its_temperature() -> None:
    manifest = make_manifest(temperatures=(0.5, 1.0, 2.0, 4.0))
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    found = manifest.exit_rule.confidence(logits, np.array([3, 2, 1, 0]))
    alone = [
        float(confidence(row, "max_softmax", heat)) for row, heat in zip(logits, (4.0, 2.0, 1.0, 0.5), strict=True)
    ]
    assert found.tolist() == alone
    with pytest.raises(ValidationError, match="one for each of 4 steps, got 2"):
        make_manifest(temperatures=(1.0, 1.0))


def test_a_guarantee_is_kept_and_checked() -> None:
    manifest = make_manifest()
    content = manifest.model_dump(mode="json")
    given = {"risk": "answer_changed", "epsilon": 0.05, "confidence": 0.95, "clips": 59, "failures": 0, "method": "m"}
    content["operating_points"][1]["guarantee"] = given
    read = Manifest.model_validate_json(json.dumps(content))
    assert read.point("balanced").guarantee == Guarantee("answer_changed", 0.05, 0.95, 59, 0, "m")
    assert read.model_dump(mode="json")["operating_points"][1]["guarantee"] == given
    for wrong in (
        {"risk": "bad luck"},
        {"epsilon": 0},
        {"confidence": 1.0},
        {"clips": 0},
        {"failures": -1},
        {"more": 1},
    ):
        content["operating_points"][1]["guarantee"] = given | wrong
        with pytest.raises(ValidationError):
            Manifest.model_validate(content)


def test_a_copy_with_other_points_has_its_own_chances_of_going_on() -> None:
    manifest = make_manifest()
    assert manifest.continuation_row("balanced")[0] == pytest.approx(0.7)
    full, balanced = manifest.operating_points
    other = balanced.model_copy(update={"exit_shares": (0.9, 0.0, 0.0, 0.1)})
    copy = manifest.model_copy(update={"operating_points": (full, other)})
    assert copy.continuation_row("balanced")[0] == pytest.approx(0.1)
    assert manifest.continuation_row("balanced")[0] == pytest.approx(0.7)
