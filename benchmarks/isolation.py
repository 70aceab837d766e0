"""Measures the cost of decoding in sandboxed processes: the same clip decoded in this process and through the pool.

A 10 s clip of 320×240, 16 frames coarse to fine, all of them taken, with interleaved rounds. It reports processor time
and wall time; on a shared machine only the former is steady. It also measures how long a worker takes to start, its
memory, and the memory that each further worker adds (its private pages).

Run ``python -m benchmarks.isolation [--rounds 60]``.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import statistics
import time
from collections.abc import Sequence

import psutil

from adafocus.bundle.manifest import FrameGeometry, Sampling
from adafocus.service.decode.pool import DecodeJob, DecodePool, PoolSettings
from adafocus.service.decode.upload import Spool
from adafocus.service.decode.watchdog import process_cpu_seconds
from adafocus.video.decoder import FrameStream
from adafocus.video.limits import MediaLimits
from adafocus.video.probe import open_video
from adafocus.video.sampler import visiting_order, wanted_frames
from adafocus.video.transform import Geometry
from benchmarks.machine import write_results
from benchmarks.plans import ClipKind, make_clip

STEPS = 16
ORDER = visiting_order(STEPS, "coarse_to_fine")
CLIP = ClipKind("10 s 240p, a key frame every 2 s", 320, 240, 10, 50)
JOB = DecodeJob(Sampling(frames=STEPS, order=ORDER), FrameGeometry(resize=256, crop=224), MediaLimits())


def in_process(clip: bytes) -> float:
    """Seconds to decode all frames in this process."""
    begun = time.perf_counter()
    with open_video(io.BytesIO(clip), JOB.limits) as video:
        stream = FrameStream(video, wanted_frames(video.index.frames, frames=STEPS, order=ORDER), Geometry(256, 224))
        while stream.next() is not None:
            pass
    return time.perf_counter() - begun


async def through_pool(pool: DecodePool, clip: bytes) -> tuple[float, float]:
    """Seconds to get all frames from a worker, including the spool; and the time that the worker reports."""
    begun = time.perf_counter()
    with Spool() as spool:
        spool.write(clip)
        spool.finish()
        async with pool.open(spool, JOB) as session:
            while await session.next() is not None:
                pass
    return time.perf_counter() - begun, session.cost.seconds


async def start_seconds() -> float:
    """Seconds to start one worker."""
    begun = time.perf_counter()
    async with DecodePool(PoolSettings(workers=1, crop=224)):
        return time.perf_counter() - begun


def milliseconds(samples: Sequence[float], *, best: bool = False) -> float:
    """The median, or the minimum."""
    return round((min(samples) if best else statistics.median(samples)) * 1e3, 2)


async def measure(rounds: int) -> dict[str, object]:
    """Run one round of all measurements."""
    clip = make_clip(CLIP)
    starts = [await start_seconds() for _ in range(10)]
    here, pooled, inside, cpu_here, cpu_worker, cpu_service = [], [], [], [], [], []
    async with DecodePool(PoolSettings(workers=1, crop=224)) as pool:
        worker = psutil.Process(pool.pids[0])
        fresh = worker.memory_full_info()
        for _ in range(rounds):
            cpu = time.process_time()
            here.append(in_process(clip))
            cpu_here.append(time.process_time() - cpu)
            cpu, cpu_of_worker = time.process_time(), process_cpu_seconds(worker.pid)
            outside, spent = await through_pool(pool, clip)
            pooled.append(outside)
            inside.append(spent)
            cpu_service.append(time.process_time() - cpu)
            await asyncio.sleep(0.01)  # it cleans up after its last message
            cpu_worker.append(process_cpu_seconds(worker.pid) - cpu_of_worker)
        used = worker.memory_full_info()
    return {
        "clip": CLIP.name,
        "in_process_ms": milliseconds(here),
        "pool_ms": milliseconds(pooled),
        "worker_says_ms": milliseconds(inside),
        "overhead_ms": round(milliseconds(pooled) - milliseconds(here), 2),
        "in_process_cpu_ms": milliseconds(cpu_here),
        "worker_cpu_ms": milliseconds(cpu_worker),
        "service_cpu_ms": milliseconds(cpu_service),
        "in_process_best_ms": milliseconds(here, best=True),
        "pool_best_ms": milliseconds(pooled, best=True),
        "start_ms": milliseconds(starts),
        "start_best_ms": milliseconds(starts, best=True),
        "fresh_rss_mb": round(fresh.rss / 1e6, 1),
        "fresh_private_mb": round(fresh.uss / 1e6, 1),
        "used_rss_mb": round(used.rss / 1e6, 1),
        "used_private_mb": round(used.uss / 1e6, 1),
        "rounds": rounds,
    }


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    row = asyncio.run(measure(parser.parse_args().rounds))
    for name, value in row.items():
        print(f"{name:>20}  {value}")
    print(write_results("isolation", "pyav", [row]))


if __name__ == "__main__":
    main()
