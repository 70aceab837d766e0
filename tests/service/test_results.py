"""What an outcome of the engine becomes in the answer."""

from __future__ import annotations

import json

import numpy as np

from adafocus.bundle.manifest import Manifest, OperatingPoint
from adafocus.service.engine.request import Outcome, Step
from adafocus.service.engine.stage_times import StageTimes
from adafocus.service.engine.transport import RunnerInfo
from adafocus.service.results import Decoded, to_response
from adafocus.service.schemas.classify import Classification
from adafocus.service.schemas.open_inference import InferenceRequest, ModelMetadata
from adafocus.service.schemas.parameters import Parameters
from adafocus.service.schemas.tensors import Call
from adafocus.service.schemas.tensors import answer as inferred
from adafocus.video.probe import VideoInfo
from tests.bundle.factory import make_graph, make_manifest

RUNNER = RunnerInfo("fake", "fp32", 1)
DECODED = Decoded(VideoInfo("mp4", "h264", 64, 64, 25.0, 1.6, 40, 0), frames=30, cpu_seconds=0.0125)
LOGITS = np.array([2.0, -0.5, -1.0], dtype=np.float32)


def outcome(component: str = "focus") -> Outcome:
    step = Step(3, 0.1, (0.5, 0.5), LOGITS, 0.7)
    last = replace_component(step, component)
    return Outcome("confident", (step, last), 0.6, 2_000_000, 4_000_000, 2, 0.0, 0.0, 0.0)


def replace_component(step: Step, component: str) -> Step:
    return step._replace(component="glance" if component == "glance" else "focus")


def several_labels() -> Manifest:
    points = make_manifest().operating_points
    return make_manifest(
        task="multi_label",
        exit_criterion="label_margin",
        label_thresholds=(0.95, 0.3, 0.5),
        operating_points=points,
    )


def respond(manifest: Manifest, made: Outcome, top_k: int = 3) -> Classification:
    asked = Parameters(exit="balanced", top_k=top_k, trace=True)
    return to_response(manifest, RUNNER, asked, "id", made, StageTimes(), DECODED)


def test_labels_that_are_present_come_first_and_say_so() -> None:
    answer = respond(several_labels(), outcome())
    assert [(one.label, one.present) for one in answer.predictions] == [
        ("down", True),
        ("up", False),
        ("still", False),
    ]
    assert answer.predictions[0].score < answer.predictions[1].score, "each label has a threshold of its own"
    assert abs(answer.predictions[1].score - 1 / (1 + np.exp(-2.0))) < 1e-6
    assert [one.label for one in respond(several_labels(), outcome(), top_k=1).predictions] == ["down"]
    assert "present" in json.loads(answer.to_json())["predictions"][0]


def test_one_label_says_nothing_of_presence() -> None:
    answer = respond(make_manifest(), outcome())
    assert [one.label for one in answer.predictions] == ["up", "down", "still"]
    assert "present" not in json.loads(answer.to_json())["predictions"][0]
    assert (answer.exit.component, answer.compute.decode_cpu_ms) == ("focus", 12.5)


def test_an_answer_after_a_glance_has_the_temperature_of_the_glance() -> None:
    early = OperatingPoint(
        name="balanced", thresholds=(None,) * 4, glance_thresholds=(0.9, 0.8, None, None), expected_gflops=0.01
    )
    manifest = make_manifest(
        operating_points=(make_manifest().point("full"), early),
        graphs=(make_graph("glance", glance_exit=True), make_graph("focus")),
        glance_temperatures=(1.0, 4.0, 1.0, 1.0),
    )
    glance, focus = respond(manifest, outcome("glance")), respond(manifest, outcome())
    assert (glance.exit.component, focus.exit.component) == ("glance", "focus")
    assert glance.predictions[0].score < focus.predictions[0].score
    assert glance.trace is not None
    assert [entry.component for entry in glance.trace] == ["focus", "glance"]


def test_the_inference_protocol_has_a_tensor_for_presence() -> None:
    request = InferenceRequest.model_validate(
        {"inputs": [{"name": "video", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}]}
    )
    for manifest, names in (
        (several_labels(), ["label", "score", "index", "answer", "present"]),
        (make_manifest(), ["label", "score", "index", "answer"]),
    ):
        body, _ = inferred(Call(request, b"", 0), respond(manifest, outcome()))
        outputs = json.loads(body)["outputs"]
        assert [output["name"] for output in outputs] == names
        assert [output.name for output in ModelMetadata.of(manifest).outputs] == names
    asked = InferenceRequest.model_validate({**request.model_dump(), "outputs": [{"name": "present"}]})
    body, _ = inferred(Call(asked, b"", 0), respond(make_manifest(), outcome()))
    (output,) = json.loads(body)["outputs"]
    assert (output["datatype"], output["data"]) == ("BOOL", [True, False, False])
    binary = InferenceRequest.model_validate(
        {**request.model_dump(), "outputs": [{"name": "present", "parameters": {"binary_data": True}}]}
    )
    body, length = inferred(Call(binary, b"", 0), respond(several_labels(), outcome()))
    assert body[length:] == b"\1\0\0"
