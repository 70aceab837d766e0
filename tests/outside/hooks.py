"""Hooks for schemathesis, which cannot generate videos: they send a real video where the description requires one."""

import base64
import json
import os
import struct
from pathlib import Path

import schemathesis
from hypothesis import strategies as st
from schemathesis.transport.serialization import Binary

CLIPS = [path.read_bytes() for path in sorted(Path(os.environ["ADAFOCUS_SAMPLES"]).glob("*.mp4"))]
HEADER = "Inference-Header-Content-Length"

schemathesis.openapi.format("binary", st.sampled_from(CLIPS))
schemathesis.openapi.format("byte", st.sampled_from([base64.b64encode(clip).decode() for clip in CLIPS]))
schemathesis.serializer.alias("video/mp4", "application/octet-stream")


@schemathesis.hook.apply_to(path_regex="/infer$")
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, object]) -> None:
    """A description cannot tie a header to a media type, nor its value to the body: bytes have it, JSON does not."""
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return
    if case.media_type != "application/octet-stream":
        case.headers.pop(HEADER, None)
    else:
        clip = case.body.data if isinstance(case.body, Binary) else CLIPS[0]
        element = struct.pack("<I", len(clip)) + clip
        video = {"name": "video", "shape": [1], "datatype": "BYTES"}
        head = json.dumps({"inputs": [{**video, "parameters": {"binary_data_size": len(element)}}]}).encode()
        case.headers[HEADER] = str(len(head))
        case.body = head + element
