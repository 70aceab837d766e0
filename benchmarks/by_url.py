"""Counts the bytes that are fetched of a video by URL, against its size, for each container and operating point.

The video is a minute of 1920 × 1080 pixels at 25 frames a second, made of the sample clips with noise added, so that it
has the bit rate of a camera (`--megabits`). It is served from loopback, with ranges, to the shipped bundle. Packets are
copied into the other containers, so that all have the same pictures. A key frame comes every two seconds, as in files
for streaming, or every ten, as x264 does by default.

Run ``python -m benchmarks.by_url [--seconds 60]``.
"""

from __future__ import annotations

import argparse
import asyncio
import io
from fractions import Fraction
from typing import Any

import av
import numpy as np

from adafocus.bundle.store import load_bundle
from adafocus.service.classify import classify
from adafocus.service.runtime import make_runner, open_runtime
from adafocus.service.schemas.parameters import parse_parameters
from adafocus.service.settings import Settings
from adafocus.service.sources.http_source import HttpSource
from adafocus.service.sources.policy import UrlPolicy
from adafocus.service.telemetry.metrics import Metrics
from benchmarks.machine import write_results
from benchmarks.service_process import ROOT
from tests.media.damage import moov_first
from tests.service.sources.servers import files, serving_http

SIZE = (1920, 1080)
CONTAINERS = {"mp4, index first": "mp4", "mp4, index last": "mp4", "matroska": "matroska", "mpegts": "mpegts"}


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--megabits", type=float, default=5.0)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for key_frames_s in (2, 10):
        encoded = _encode(given.seconds, given.megabits, key_frames_s)
        for name, container in CONTAINERS.items():
            video = _copied(encoded, container)
            if name == "mp4, index first":
                video = moov_first(video)
            for row in asyncio.run(_measure(video)):
                rows.append({"container": name, "key_frame_every_s": key_frames_s, **row})
                print(rows[-1])
    print(write_results("by-url", "shipped", rows))


def _encode(seconds: int, megabits: float, key_frames_s: int) -> bytes:
    buffer, noise = io.BytesIO(), np.random.default_rng(0)
    grain = [noise.integers(-6, 7, (SIZE[1], SIZE[0]), dtype=np.int16) for _ in range(8)]
    with av.open(buffer, "w", format="mp4") as output:
        options = {"preset": "ultrafast", "g": str(25 * key_frames_s), "sc_threshold": "0"}
        stream = output.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.bit_rate = int(megabits * 1e6)
        for number, frame in zip(range(25 * seconds), _frames(), strict=False):
            picture = frame.reformat(*SIZE, "yuv420p")
            luma = np.frombuffer(picture.planes[0], np.uint8).reshape(SIZE[1], picture.planes[0].line_size)
            noisy = np.clip(luma[:, : SIZE[0]].astype(np.int16) + grain[number % 8], 0, 255).astype(np.uint8)
            luma_out = luma.copy()
            luma_out[:, : SIZE[0]] = noisy
            picture.planes[0].update(luma_out.tobytes())
            picture.pict_type = av.video.frame.PictureType.NONE  # the encoder chooses the key frames
            picture.pts, picture.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
    return buffer.getvalue()


def _frames() -> Any:
    while True:
        for clip in sorted((ROOT / "samples").glob("*.mp4")):
            with av.open(str(clip)) as container:
                yield from container.decode(video=0)


def _copied(encoded: bytes, container: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(io.BytesIO(encoded)) as source, av.open(buffer, "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return buffer.getvalue()


async def _measure(video: bytes) -> list[dict[str, Any]]:
    bundle_path = next(path.parent for path in (ROOT / "bundles").glob("*/manifest.json"))
    settings = Settings(bundle=bundle_path, decode_workers=1, max_upload_bytes=1 << 34)
    bundle = load_bundle(settings.bundle)
    policy, rows = UrlPolicy(("127.0.0.1:*",), private=True), []
    async with open_runtime(bundle, settings, Metrics(bundle.manifest.steps), make_runner) as runtime:
        for point in ("fast", "balanced", "full"):
            async with serving_http(files({"/clip": video})) as server:
                source = HttpSource(server.url("/clip"), policy)
                answer = await classify(runtime, source, parse_parameters([("exit", point)], bundle.manifest), "x")
            fetched = answer.compute.bytes_fetched or 0
            rows.append(
                {
                    "exit": point,
                    "step": answer.exit.step,
                    "bytes": len(video),
                    "bytes_fetched": fetched,
                    "share_percent": round(100 * fetched / len(video), 1),
                    "requests": len(server.requests),
                    "frames_decoded": answer.compute.frames_decoded,
                }
            )
    return rows


if __name__ == "__main__":
    main()
