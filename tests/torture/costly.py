"""Videos of few bytes that take long to decode, made here."""

from __future__ import annotations

import io
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np


@lru_cache(maxsize=2)
def costly_video(frames: int = 600, width: int = 3840, height: int = 2160) -> bytes:
    """A black video with one key frame: its last frame needs all others, and each costs a few bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "100000", "crf": "51"}
        stream = output.add_stream("libx264", rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((height * 3 // 2, width), np.uint8), format="yuv420p")
        for number in range(frames):
            picture.pts = number
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return buffer.getvalue()
