"""Classifies videos of up to hours in windows, and measures memory, processor time and the boundaries of the events.

The video is the sample clips one after the other, again and again, in parts of half a minute: its packets are copied
from one encoding of them, so the label of every moment is known. Each length runs in a process of its own with the
shipped bundle. Memory is what the process and its decoder keep resident, sampled after every window: at a quarter of
the video, and the most of the rest. An event is right if its label is that of the part that it covers and both its
ends are within a window of the part's.

Run ``python -m benchmarks.long_video [--hours 0.5,3] [--window 10]``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from adafocus.bundle.store import load_bundle
from adafocus.service.reception import Body
from adafocus.service.runtime import make_runner, open_runtime
from adafocus.service.schemas.parameters import parse_parameters
from adafocus.service.segments import SegmentObserver
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics
from adafocus.service.windows import classify_video
from benchmarks.machine import write_results
from benchmarks.service_process import ROOT

LABELS = ("airplane", "bird", "drone", "helicopter")
REPEATS = 3


def main() -> None:
    """Measure every length and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", default="0.5,1,3")
    parser.add_argument("--window", default="10")
    parser.add_argument("--points", default="balanced,full")
    parser.add_argument("--child", nargs=4, metavar=("FILE", "WINDOW", "POINT", "PARTS"))
    given = parser.parse_args()
    if given.child is not None:
        print(json.dumps(asyncio.run(_classify(*given.child))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        once, parts = _encode_once(Path(folder) / "once.mp4")
        for hours in map(float, given.hours.split(",")):
            video = Path(folder) / f"{hours}.mp4"
            spans = _repeat(once, video, hours * 3600, parts)
            for point in given.points.split(","):
                command = [sys.executable, "-m", "benchmarks.long_video", "--child", str(video), given.window, point]
                done = subprocess.run([*command, json.dumps(spans)], cwd=ROOT, capture_output=True, check=True)
                rows.append({"hours": hours, "megabytes": round(video.stat().st_size / 1e6), **json.loads(done.stdout)})
                print(rows[-1])
            video.unlink()
    print(write_results("long-video", "shipped", rows))


def _encode_once(path: Path) -> tuple[Path, list[tuple[str, float]]]:
    """The samples, each some times, as one stream; and the label and length of each part."""
    parts, number = [], 0
    with av.open(str(path), "w") as output:
        stream = None
        for label in LABELS:
            before = number
            for frame in _frames(label):
                if stream is None:
                    stream = output.add_stream("libx264", rate=25, options={"preset": "veryfast", "g": "250"})
                    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
                picture = frame.reformat(stream.width, stream.height, "yuv420p")
                picture.pict_type = av.video.frame.PictureType.NONE  # the encoder chooses the key frames
                picture.pts, picture.time_base = number, Fraction(1, 25)
                number += 1
                output.mux(stream.encode(picture))
            parts.append((label, (number - before) / 25))
        if stream is not None:
            output.mux(stream.encode())
    return path, parts


def _frames(label: str) -> Iterator[av.VideoFrame]:
    for _ in range(REPEATS):
        with av.open(str(ROOT / "samples" / f"{label}.mp4")) as container:
            yield from container.decode(video=0)


def _repeat(once: Path, path: Path, seconds: float, parts: list[tuple[str, float]]) -> list[tuple[str, float, float]]:
    """Copy the packets again and again up to a length; returns label, start and end of every part."""
    length = sum(part_seconds for _, part_seconds in parts)
    times = max(1, round(seconds / length))
    with av.open(str(path), "w", options={"movflags": "faststart"}) as output:
        stream = None
        for turn in range(times):
            with av.open(str(once)) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(video)
                for packet in source.demux(video):
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue
                    shift = int(turn * Fraction(length).limit_denominator(25) / packet.time_base)
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = stream
                    output.mux(packet)
    spans, start = [], 0.0
    for label, part_seconds in parts * times:
        spans.append((label, start, start + part_seconds))
        start += part_seconds
    return spans


async def _classify(file: str, window: str, point: str, parts: str) -> dict[str, Any]:
    settings = Settings(
        bundle=next(path.parent for path in (ROOT / "bundles").glob("*/manifest.json")),
        decode_workers=1,
        max_upload_bytes=1 << 40,
        windows_timeout_seconds=86_400,
    )
    bundle = load_bundle(settings.bundle)
    asked = parse_parameters([("exit", point), ("window_s", window), ("event_min_s", window)], bundle.manifest)
    memory: list[int] = []
    async with open_runtime(bundle, settings, Metrics(bundle.manifest.steps), make_runner) as runtime:
        workers = runtime.decoder.pids
        observer = SegmentObserver(on_segment=lambda _: memory.append(_resident((os.getpid(), *workers))))
        began, cpu = time.perf_counter(), _cpu_seconds(workers)
        body = Body(_chunks(Path(file)))
        answer = await classify_video(runtime, body, asked, "benchmark", segment_observer=observer)
        wall, cpu = time.perf_counter() - began, _cpu_seconds(workers) - cpu
    spans = json.loads(parts)
    right = sum(_is_right(event, span, float(window)) for event, span in zip(answer.events or (), spans, strict=False))
    quarter = len(memory) // 4
    return {
        "exit": point,
        "window_s": float(window),
        "windows": len(answer.segments or ()),
        "parts": len(spans),
        "events": len(answer.events or ()),
        "events_right": right,
        "cpu_seconds": round(cpu, 1),
        "wall_seconds": round(wall, 1),
        "gflops": round(answer.compute.gflops, 2),
        "gflops_full": round(answer.compute.gflops_full, 2),
        "frames_decoded": answer.compute.frames_decoded,
        "frames": answer.video.frames,
        "resident_mb_at_a_quarter": round(memory[quarter] / 1e6, 1),
        "resident_mb_most_after": round(max(memory[quarter:]) / 1e6, 1),
    }


def _is_right(event: Any, span: tuple[str, float, float], window: float) -> bool:
    label, start, end = span
    return event.label == label and abs(event.start_s - start) <= window and abs(event.end_s - end) <= window


def _resident(pids: tuple[int, ...]) -> int:
    """Memory that the processes have to themselves or share, without files, bytes."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1]) * 1024
    return total


def _cpu_seconds(pids: tuple[int, ...]) -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    tick = os.sysconf("SC_CLK_TCK")
    fields = (Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split() for pid in pids)
    return own.ru_utime + own.ru_stime + sum((int(it[11]) + int(it[12])) / tick for it in fields)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            yield chunk


if __name__ == "__main__":
    main()
