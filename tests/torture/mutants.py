"""Damaged videos by the thousand, with honest clips in between: no 500, no hang, honest answers as before.

The mutators know the structure: boxes of MP4 are resized and their tables written over, numbers are set to extremes,
pieces are cut out, doubled and moved, and files are spliced. Besides, bytes are flipped. The model is a tiny one: what
is attacked is how videos are read.

    python -m tests.torture.mutants [--mutants 2000] [--clients 4] [--seed 1] [--seconds S] [--write VARIANT]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.machine import write_results
from benchmarks.service_process import SAMPLES, ServiceProcess, running_service
from tests.e2e.tiny import write_tiny_bundle
from tests.media.named import NAMES, named

HONEST_EVERY = 20
TIMEOUT_SECONDS = 120.0
MOST_GROWTH_MB = 40.0
REPORT_EVERY = 1000

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Mutator = Callable[[bytearray, random.Random], None]


def flip(data: bytearray, chance: random.Random) -> None:
    """Write over single bytes, more often near the start, where headers are."""
    for _ in range(chance.choice((1, 4, 32, 256))):
        limit = chance.choice((min(len(data), 4096), len(data)))
        data[chance.randrange(limit)] = chance.randrange(256)


def extreme(data: bytearray, chance: random.Random) -> None:
    """Write extreme numbers of 1, 2 or 4 bytes."""
    for _ in range(chance.choice((1, 3, 10))):
        size = chance.choice((1, 2, 4))
        at = chance.randrange(max(1, len(data) - size))
        data[at : at + size] = (chance.choice(EXTREMES) & (256**size - 1)).to_bytes(
            size, chance.choice(("big", "little"))
        )


def cut(data: bytearray, chance: random.Random) -> None:
    """Cut a piece out, or the end off."""
    start = chance.randrange(len(data))
    del data[start : chance.choice((len(data), start + chance.randrange(1, 5000)))]


def double(data: bytearray, chance: random.Random) -> None:
    """Insert a piece of the file elsewhere."""
    start = chance.randrange(len(data))
    piece = data[start : start + chance.randrange(1, 5000)]
    at = chance.randrange(len(data))
    data[at:at] = piece


def boxes(data: bytearray, chance: random.Random) -> None:
    """Change the size, or the contents, of boxes by their names."""
    for name in chance.sample(
        (b"stsz", b"stco", b"stts", b"ctts", b"stsc", b"stss", b"mdhd", b"avcC", b"elst", b"tkhd"), 3
    ):
        at = data.find(name)
        if at < 4:
            continue
        if chance.random() < 0.5:
            data[at - 4 : at] = struct.pack(">I", chance.choice((*EXTREMES[5:], len(data), 8, 16)))
        else:
            for _ in range(chance.randrange(1, 12)):
                place = at + 4 + 4 * chance.randrange(12)
                data[place : place + 4] = struct.pack(">I", chance.choice((*EXTREMES, chance.randrange(1 << 32))))


MUTATORS: tuple[Mutator, ...] = (flip, extreme, cut, double, boxes)


def mutant(seeds: list[bytes], chance: random.Random) -> bytes:
    """A damaged video, made of one or two good ones."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randrange(1, 4)):
        if data:
            chance.choice(MUTATORS)(data, chance)
    if chance.random() < 0.1:
        data += chance.choice(seeds)[chance.randrange(2000) :]
    return bytes(data) or b"x"


def essence(answer: httpx.Response) -> object:
    """The part of an honest answer that must not change."""
    told = answer.json()
    return told["predictions"], told["exit"]["step"], told["compute"]["frames_used"]


async def attack(
    service: ServiceProcess, mutants: int, clients: int, seed: int, seconds: float = float("inf")
) -> dict[str, object]:
    """Send them all, or as many as there is time for, and sum up."""
    ends = time.monotonic() + seconds
    chance = random.Random(seed)
    seeds = [path.read_bytes() for path in SAMPLES] + [named(name) for name in NAMES]
    honest = SAMPLES[0].read_bytes()
    status: Counter[int | str] = Counter()
    wrong: list[str] = []
    slowest = 0.0
    # The service closes an idle connection after five seconds; whoever sends at that moment gets no answer.
    limits = httpx.Limits(keepalive_expiry=1.0)
    async with httpx.AsyncClient(
        base_url=service.url, timeout=TIMEOUT_SECONDS, trust_env=False, limits=limits
    ) as client:

        async def post(content: bytes) -> httpx.Response:
            while (answer := await client.post("/classify?exit=full", content=content)).status_code == 503:
                await asyncio.sleep(0.2)
            return answer

        expected = essence(await post(honest))
        for _ in range(50):
            await post(mutant(seeds, chance))
        before, descriptors = service.memory_mb()[0], _descriptors(service.pid)
        left, honest_answers = mutants, 0

        async def work() -> None:
            nonlocal left, slowest, honest_answers
            while left > 0 and time.monotonic() < ends:
                left -= 1
                if left % REPORT_EVERY == 0:
                    print(f"{mutants - left} of {mutants}, {service.memory_mb()[0]:.1f} MB", dict(status), flush=True)
                number, video = left, mutant(seeds, chance)
                began = time.perf_counter()
                try:
                    answer = await post(video)
                except httpx.HTTPError as error:
                    status[type(error).__name__] += 1
                    wrong.append(f"mutant {number}: {error!r}")
                    continue
                slowest = max(slowest, time.perf_counter() - began)
                status[answer.status_code] += 1
                if answer.status_code >= 500:
                    wrong.append(f"mutant {number}: {answer.text}")
                if number % HONEST_EVERY:
                    continue
                honest_answers += 1
                if essence(await post(honest)) != expected:
                    wrong.append(f"after mutant {number}: another answer to an honest clip")

        await asyncio.gather(*(work() for _ in range(clients)))
        after = service.memory_mb()[0]
        metrics = (await client.get("/metrics")).text
    restarts = sum(float(line.rpartition(" ")[2]) for line in metrics.splitlines() if "worker_restarts_total{" in line)
    growth = after - before
    if growth > MOST_GROWTH_MB:
        wrong.append(f"memory grew by {growth:.1f} MB")
    # Memory of frames is kept for as many videos as there were clients, and was warmed up by one.
    if _descriptors(service.pid) > descriptors + 8 * clients:
        wrong.append(f"descriptors grew from {descriptors} to {_descriptors(service.pid)}")
    for line in wrong[:20]:
        print(line)
    return {
        "mutants": mutants - left,
        "statuses": json.dumps({str(key): count for key, count in sorted(status.items(), key=str)}),
        "slowest_s": round(slowest, 2),
        "worker_restarts": int(restarts),
        "memory_growth_mb": round(growth, 2),
        "descriptors_before": descriptors,
        "descriptors_after": _descriptors(service.pid),
        "honest_answers": honest_answers,
        "breaches": len(wrong),
        "seed": seed,
    }


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def main() -> int:
    """Attack, print, and say whether anything broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--write", metavar="VARIANT")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        write_tiny_bundle(Path(folder))
        with running_service("--bundle", folder) as service:
            row = asyncio.run(attack(service, options.mutants, options.clients, options.seed, options.seconds))
    print(row)
    if options.write:
        print(write_results("mutants", options.write, [row]))
    return int(bool(row["breaches"]))


if __name__ == "__main__":
    sys.exit(main())
