"""What reaching frames costs: to the first step, to the last step, and decoding the file whole.

Clips are made here: short, long (three minutes of 1080p), a single key frame, all key frames. Each is read through the
same well as an upload, 16 frames coarse to fine. A "scan" decodes every frame and converts none.

Run ``python -m benchmarks.plans [--rounds 3]``.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from benchmarks.machine import write_results
from video.decoder import FrameStream
from video.probe import open_video
from video.sampler import visiting_order, wanted_frames
from video.transform import Geometry

STEPS = 16
GEOMETRY = Geometry(256, 224)


@dataclass(frozen=True)
class ClipKind:
    """A clip to make: size in pixels, length in seconds, frames between key frames."""

    name: str
    width: int
    height: int
    seconds: int
    key_every: int


KINDS = (
    ClipKind("short, 10 s 240p, one key frame", 320, 240, 10, 1000),
    ClipKind("60 s 360p, one key frame", 640, 360, 60, 100_000),
    ClipKind("60 s 360p, a key frame every 2 s", 640, 360, 60, 50),
    ClipKind("20 s 360p, all key frames", 640, 360, 20, 1),
    ClipKind("3 min 1080p, a key frame every 10 s", 1920, 1080, 180, 250),
)


def make_clip(kind: ClipKind, rate: int = 25) -> bytes:
    """H.264 in MP4: a moving gradient under a sensor's noise, which no frame shares with the one before."""
    sink = io.BytesIO()
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 12, (8, kind.height, kind.width, 1), dtype=np.uint8)
    ramp = np.linspace(0, 200, kind.width, dtype=np.uint8)[None, :, None]
    with av.open(sink, "w", format="mp4") as container:
        options = {"preset": "ultrafast", "g": str(kind.key_every), "keyint_min": str(min(kind.key_every, 25))}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = kind.width, kind.height, "yuv420p"
        stream.time_base = Fraction(1, rate)
        for number in range(kind.seconds * rate):
            pixels = np.roll(ramp, 3 * number, axis=1) + grain[rng.integers(8)]
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), dtype=np.uint8), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return sink.getvalue()


def scan(clip: bytes) -> tuple[float, int]:
    """Seconds and frames of decoding the whole file on one thread."""
    begun, frames = time.perf_counter(), 0
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for _ in container.decode(stream):
            frames += 1
    return time.perf_counter() - begun, frames


def reach(clip: bytes, steps: int) -> tuple[float, int]:
    """Seconds and decoded frames up to that many steps, opening and indexing included."""
    begun = time.perf_counter()
    with open_video(io.BytesIO(clip)) as video:
        order = visiting_order(STEPS, "coarse_to_fine")
        stream = FrameStream(
            video, wanted_frames(video.index.frames, frames=STEPS, order=order, first_frame=0), GEOMETRY
        )
        for _ in range(steps):
            stream.next()
        stream.close()
        return time.perf_counter() - begun, stream.frames_decoded


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rows = []
    for kind in KINDS:
        clip = make_clip(kind)
        samples = [(scan(clip), reach(clip, 1), reach(clip, STEPS)) for _ in range(rounds)]
        whole, first, every = (statistics.median(sample[i][0] for sample in samples) for i in range(3))
        rows.append(
            {
                "clip": kind.name,
                "frames": samples[0][0][1],
                "scan_ms": round(whole * 1e3, 1),
                "first_step_ms": round(first * 1e3, 1),
                "first_step_frames": samples[0][1][1],
                "first_step_of_scan": round(first / whole, 4),
                "all_steps_ms": round(every * 1e3, 1),
                "all_steps_frames": samples[0][2][1],
                "all_steps_of_scan": round(every / whole, 3),
                "rounds": rounds,
            }
        )
        print(rows[-1], flush=True)
    print(write_results("plans", "pyav", rows))


if __name__ == "__main__":
    main()
