"""Examples for the API description: requests that work as they stand, and responses that a bundle might give."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

from adafocus.bundle.manifest import Manifest
from adafocus.service.errors import DeadlinePassed
from adafocus.service.progress import GIGA
from adafocus.service.schemas import tensors
from adafocus.service.schemas.classify import (
    Classification,
    ComputeAnswer,
    ExitAnswer,
    ModelAnswer,
    PatchAnswer,
    Prediction,
    StepEvent,
    TimingAnswer,
    TraceEntry,
    VideoAnswer,
)
from adafocus.service.schemas.models import ModelList, ModelState, ModelSummary
from adafocus.service.schemas.open_inference import InferenceRequest

REQUEST_ID = "0f8c2b9e5d7a4c31b6e0a1f2d3c4b5a6"
"""The request id in every example."""

_THRESHOLD = 0.88
_INPUT = {"name": "video", "shape": [1], "datatype": "BYTES"}


def _chunk(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack("<4sI", name, len(body)) + body


def _smallest_video() -> bytes:
    """An AVI of one raw pixel. All its bytes are below 128, so that JSON can show it as it is."""
    size = (1, 1)
    frame = _chunk(b"00db", b"@@@\0")
    header = _chunk(b"avih", struct.pack("<14I", 1_000_000, 0, 0, 0, 1, 0, 1, 0, *size, 0, 0, 0, 0))
    stream = _chunk(b"strh", struct.pack("<4s4s10I4H", b"vids", b"DIB ", 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, *size))
    pixels = _chunk(b"strf", struct.pack("<3I2H6I", 40, *size, 1, 24, 0, 4, 0, 0, 0, 0))
    padding = _chunk(b"JUNK", bytes(56))  # so that the sizes of the chunks around it have no byte above 127
    headers = _chunk(b"LIST", b"hdrl", header, _chunk(b"LIST", b"strl", stream, pixels), padding)
    return _chunk(b"RIFF", b"AVI ", headers, _chunk(b"LIST", b"movi", frame))


SMALLEST_VIDEO = _smallest_video()


def inference_in_json() -> dict[str, Any]:
    """A request of ``/v2/models/{name}/infer`` in JSON."""
    data = [base64.b64encode(SMALLEST_VIDEO).decode()]
    return {"id": "clip-1", "parameters": {"top_k": 2}, "inputs": [{**_INPUT, "data": data}]}


def inference_in_bytes() -> tuple[str, int]:
    """The same request in the binary extension, with one output in each form; and the length of its JSON."""
    element = struct.pack("<I", len(SMALLEST_VIDEO)) + SMALLEST_VIDEO
    head = json.dumps(
        {
            **inference_in_json(),
            "inputs": [{**_INPUT, "parameters": {"binary_data_size": len(element)}}],
            "outputs": [{"name": "label"}, {"name": "index", "parameters": {"binary_data": True}}],
        }
    )
    return head + element.decode("ascii"), len(head)


def inferred_in_json(manifest: Manifest) -> dict[str, Any]:
    """A response to `inference_in_json`."""
    request = InferenceRequest.model_validate(inference_in_json())
    body, _ = tensors.answer(tensors.Call(request, SMALLEST_VIDEO, 0), classification(manifest))
    answer: dict[str, Any] = json.loads(body)
    return answer


def inferred_in_bytes(manifest: Manifest) -> str:
    """A response to `inference_in_bytes`."""
    text, length = inference_in_bytes()
    call = tensors.parse_call(text[:length].encode(), binary=True)
    body, _ = tensors.answer(call, classification(manifest))
    return body.decode()


def classification(manifest: Manifest) -> Classification:
    """An answer that this bundle might give."""
    labels = manifest.labels[:2]
    step = min(2, manifest.steps)
    per_step = manifest.flops.per_step / GIGA
    confidence = 0.93
    return Classification(
        id=REQUEST_ID,
        model=ModelAnswer(name=manifest.name, version=manifest.version, precision="fp32", backend="onnxruntime-cpu"),
        predictions=[
            Prediction(label=label, index=index, score=(confidence, 0.04)[index]) for index, label in enumerate(labels)
        ],
        exit=ExitAnswer(
            point=manifest.default_point,
            reason="confident",
            step=step,
            steps=manifest.steps,
            component="focus",
            confidence=confidence,
            threshold=_THRESHOLD,
        ),
        compute=ComputeAnswer(
            gflops=step * per_step,
            gflops_full=manifest.flops_full / GIGA,
            glance_gflops=step * manifest.flops.glance / GIGA,
            focus_gflops=step * manifest.flops.focus / GIGA,
            frames_used=step,
            frames_decoded=61,
            decode_cpu_ms=8.7,
        ),
        timing_ms=TimingAnswer(total=41.0, upload=2.0, queue=0.3, decode=9.1, glance=7.0, focus=21.9),
        video=VideoAnswer(container="mp4", codec="h264", width=640, height=360, fps=25.0, duration_s=9.8, frames=245),
        trace=[_first_step(manifest)],
    )


def model_state(manifest: Manifest) -> ModelState:
    """A model of the repository that answers."""
    return ModelState(name=manifest.name, version=manifest.version, state="READY")


def models(manifest: Manifest) -> ModelList:
    """The models of a service that has one."""
    summary = ModelSummary(
        name=manifest.name,
        version=manifest.version,
        state="READY",
        kind=manifest.kind,
        labels=len(manifest.labels),
        operating_points=tuple(point.name for point in manifest.operating_points),
        default_point=manifest.default_point,
    )
    return ModelList(default=manifest.name, models=(summary,))


def _first_step(manifest: Manifest) -> TraceEntry:
    patch = PatchAnswer(x=88, y=40, width=180, height=180)
    return TraceEntry(step=1, frame=122, time_s=4.88, patch=patch, label=manifest.labels[0], confidence=0.41)


def events(manifest: Manifest) -> dict[str, Any]:
    """An event of each kind, by name."""
    answer = classification(manifest)
    step = StepEvent(
        **dict(_first_step(manifest)),
        place=manifest.sampling.order[0],
        threshold=_THRESHOLD,
        gflops=manifest.flops.per_step / GIGA,
        elapsed_ms=19.5,
    )
    problem = DeadlinePassed().document(REQUEST_ID)
    told = {"step": step.to_json(), "result": answer.to_json(), "problem": json.dumps(problem)}
    return {name: {"value": {"event": name, "data": data}} for name, data in told.items()}
