"""What schemathesis cannot make up: videos. Wherever the description says bytes of a video, it sends a real one."""

import base64
import os
from pathlib import Path

import schemathesis
from hypothesis import strategies as st

CLIPS = [path.read_bytes() for path in sorted(Path(os.environ["ADAFOCUS_SAMPLES"]).glob("*.mp4"))]

schemathesis.openapi.format("binary", st.sampled_from(CLIPS))
schemathesis.openapi.format("byte", st.sampled_from([base64.b64encode(clip).decode() for clip in CLIPS]))
for media_type in ("application/octet-stream", "video/mp4"):
    schemathesis.openapi.media_type(media_type, st.sampled_from(CLIPS))
