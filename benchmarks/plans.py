"""Measures the cost of reaching frames: to the first step, to the last step, and of decoding the whole file.

Clips are generated here: short, long (three minutes of 1080p), a single key frame, all key frames, B-pictures; the
samples follow. Each is decoded like an upload, 16 frames coarse to fine, in turns with a decoder that skips no
picture (``decoding_all``), and with frames that move to key frames (``snapped``). A "scan" decodes every frame and
converts none. Times are processor time: a decoder has one thread, so they are the same on a busy machine.

Run ``python -m benchmarks.plans [--rounds 3] [--clips FOLDER]``; the folder keeps the clips for the next run.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np

from adafocus.video.decoder import FrameStream
from adafocus.video.disposable import Disposables
from adafocus.video.probe import open_video
from adafocus.video.sampler import visiting_order, wanted_frames
from adafocus.video.transform import Geometry
from benchmarks.machine import write_results
from benchmarks.service_process import SAMPLES, one_key_frame

STEPS = 16
GEOMETRY = Geometry(256, 224)


@dataclass(frozen=True)
class ClipKind:
    """A clip to generate: size in pixels, length in seconds, frames between key frames, and the encoder's effort.

    The lowest effort makes no B-pictures.
    """

    name: str
    width: int
    height: int
    seconds: int
    key_every: int
    preset: str = "ultrafast"


KINDS = (
    ClipKind("short, 10 s 240p, one key frame", 320, 240, 10, 1000),
    ClipKind("60 s 360p, one key frame", 640, 360, 60, 100_000),
    ClipKind("60 s 360p, a key frame every 2 s", 640, 360, 60, 50),
    ClipKind("60 s 360p, a key frame every 10 s, B-pictures", 640, 360, 60, 250, "veryfast"),
    ClipKind("20 s 360p, all key frames", 640, 360, 20, 1),
    ClipKind("60 s 720p, a key frame every 2 s", 1280, 720, 60, 50),
    ClipKind("30 s 1080p, a key frame every 2 s", 1920, 1080, 30, 50),
    ClipKind("30 s 1080p, a key frame every 2 s, B-pictures", 1920, 1080, 30, 50, "veryfast"),
    ClipKind("3 min 1080p, a key frame every 10 s", 1920, 1080, 180, 250),
)


def make_clip(kind: ClipKind, rate: int = 25) -> bytes:
    """Generate H.264 in MP4: a moving gradient with sensor noise, which differs in every frame."""
    sink = io.BytesIO()
    rng = np.random.default_rng(0)
    grain = rng.integers(0, 12, (8, kind.height, kind.width, 1), dtype=np.uint8)
    ramp = np.linspace(0, 200, kind.width, dtype=np.uint8)[None, :, None]
    with av.open(sink, "w", format="mp4") as container:
        options = {"preset": kind.preset, "g": str(kind.key_every), "keyint_min": str(min(kind.key_every, 25))}
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
    begun, frames = time.process_time(), 0
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for _ in container.decode(stream):
            frames += 1
    return time.process_time() - begun, frames


def reach(clip: bytes, steps: int, *, sparing: bool = True, snap: bool = False) -> tuple[float, int]:
    """Seconds and decoded frames up to that many steps, including opening and indexing.

    Args:
        clip: the file.
        steps: how many of the frames are taken.
        sparing: leave out pictures that nothing refers to.
        snap: move frames to key frames of their intervals.
    """
    begun = time.process_time()
    everything = nullcontext() if sparing else patch.object(Disposables, "may_leave_out", lambda *_: False)
    with everything, open_video(io.BytesIO(clip)) as video:
        order = visiting_order(STEPS, "coarse_to_fine")
        key_frames = video.index.key_frames if snap else ()
        wanted = wanted_frames(video.index.frames, frames=STEPS, order=order, key_frames=key_frames)
        stream = FrameStream(video, wanted, GEOMETRY)
        for _ in range(steps):
            stream.next()
        stream.close()
        return time.process_time() - begun, stream.frames_decoded


def measure(name: str, clip: bytes, rounds: int) -> dict[str, object]:
    """One row: medians, all ways in turns."""
    samples = [
        (
            scan(clip),
            reach(clip, 1),
            reach(clip, 1, sparing=False),
            reach(clip, STEPS),
            reach(clip, STEPS, sparing=False),
            reach(clip, 1, snap=True),
            reach(clip, STEPS, snap=True),
        )
        for _ in range(rounds)
    ]
    whole, first, first_all, every, every_all, first_snapped, every_snapped = (
        statistics.median(each[i][0] for each in samples) for i in range(7)
    )
    _, first_frames, first_frames_all, every_frames, every_frames_all, first_frames_snapped, every_frames_snapped = (
        frames for _, frames in samples[0]
    )
    return {
        "clip": name,
        "frames": samples[0][0][1],
        "scan_ms": round(whole * 1e3, 1),
        "first_step_ms": round(first * 1e3, 1),
        "first_step_frames": first_frames,
        "first_step_of_scan": round(first / whole, 4),
        "first_step_ms_decoding_all": round(first_all * 1e3, 1),
        "first_step_frames_decoding_all": first_frames_all,
        "all_steps_ms": round(every * 1e3, 1),
        "all_steps_frames": every_frames,
        "all_steps_of_scan": round(every / whole, 3),
        "all_steps_ms_decoding_all": round(every_all * 1e3, 1),
        "all_steps_frames_decoding_all": every_frames_all,
        "first_step_ms_snapped": round(first_snapped * 1e3, 1),
        "first_step_frames_snapped": first_frames_snapped,
        "all_steps_ms_snapped": round(every_snapped * 1e3, 1),
        "all_steps_frames_snapped": every_frames_snapped,
        "all_steps_saved_by_snapping": round(every / every_snapped, 2),
        "rounds": rounds,
    }


def kept_clip(kind: ClipKind, folder: Path | None) -> bytes:
    """A clip of that kind; it is generated if it does not exist."""
    if folder is None:
        return make_clip(kind)
    path = folder / f"{kind.width}x{kind.height}_{kind.seconds}s_{kind.key_every}_{kind.preset}.mp4"
    if not path.exists():
        path.write_bytes(make_clip(kind))
    return path.read_bytes()


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=Path, help="folder that keeps the clips")
    parser.add_argument("--longest", type=int, default=180, help="seconds of the longest clip to make")
    options = parser.parse_args()
    clips = {kind.name: kept_clip(kind, options.clips) for kind in KINDS if kind.seconds <= options.longest}
    clips |= {f"sample {path.name}": path.read_bytes() for path in SAMPLES}
    clips["drone.mp4, with one key frame"] = one_key_frame()
    rows = []
    for name, clip in clips.items():
        rows.append(measure(name, clip, options.rounds))
        print(rows[-1], flush=True)
    print(write_results("plans", "pyav", rows))


if __name__ == "__main__":
    main()
