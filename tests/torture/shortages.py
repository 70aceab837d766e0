"""The machine runs out of descriptors, of disk, or of memory: the service goes on, says so, and recovers.

    python -m tests.torture.shortages [--seconds 10] [--only NAME] [--write VARIANT]

Disk and memory need root, for a small file system and a control group; without it they are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from adafocus.service.decode.spool import MEMORY_BYTES
from benchmarks.machine import write_results
from benchmarks.service_process import SAMPLES, ServiceProcess, running_service
from tests.e2e.tiny import write_tiny_bundle
from tests.torture.attackers import attack
from tests.torture.costly import costly_video

DESCRIPTORS = 160
DISK_BYTES = 8 << 20
MEMORY_LIMIT_BYTES = 400 << 20
PROGRAM = str(Path(sys.executable).with_name("adafocus"))
GROUPS = Path("/sys/fs/cgroup")

Answers = Counter[str]


def post(address: tuple[str, int], content: bytes) -> str:
    """Send a video; the status and the code of the answer, or the error."""
    link = HTTPConnection(*address, timeout=60)
    try:
        link.request("POST", "/classify", content)
        answer = link.getresponse()
        document = json.loads(answer.read())
        return f"{answer.status} {document.get('code', '')}".strip()
    except (OSError, HTTPException, ValueError) as error:
        return type(error).__name__
    finally:
        link.close()


def is_ready(address: tuple[str, int]) -> bool:
    """Whether the service says that it is ready."""
    link = HTTPConnection(*address, timeout=10)
    try:
        link.request("GET", "/readyz")
        return link.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        link.close()


def honest(address: tuple[str, int], seconds: float) -> Answers:
    """What an honest caller gets, who sends one clip after the other."""
    answers: Answers = Counter()
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        answers[post(address, SAMPLES[sum(answers.values()) % len(SAMPLES)].read_bytes())] += 1
    return answers


@contextmanager
def service(words: list[str], environment: dict[str, str] | None = None) -> Iterator[ServiceProcess]:
    """A service with the tiny model, started by a shell that first does something to itself."""
    with TemporaryDirectory() as folder:
        write_tiny_bundle(Path(folder))
        program = ["sh", "-c", " ".join(words) + ' exec "$0" "$@"', PROGRAM]
        with running_service("--bundle", folder, program=program, environment=environment) as running:
            yield running


def address_of(running: ServiceProcess) -> tuple[str, int]:
    """Where it listens."""
    parts = urlsplit(running.url)
    return str(parts.hostname), int(parts.port or 80)


def descriptors(seconds: float) -> tuple[Answers, Answers, bool]:
    """Few descriptors, and an attacker who opens 1,100 connections and says nothing."""
    with service([f"ulimit -n {DESCRIPTORS};"]) as running:
        address = address_of(running)
        with attack("idle", address):
            time.sleep(1)
            meanwhile = honest(address, seconds)
        return meanwhile, honest(address, 2), is_ready(address)


def disk(seconds: float) -> tuple[Answers, Answers, bool]:
    """A small file system for uploads, which is full; uploads that fit into memory need none."""
    with TemporaryDirectory() as scratch:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", scratch], check=True)
        try:
            with service([], {"TMPDIR": scratch}) as running:
                address = address_of(running)
                filler = Path(scratch, "filler")
                filler.write_bytes(bytes(DISK_BYTES - (256 << 10)))
                large = SAMPLES[0].read_bytes() + MEMORY_BYTES.to_bytes(4, "big") + b"free" + bytes(MEMORY_BYTES)
                meanwhile = Counter({f"large: {post(address, large)}": 1}) + honest(address, seconds)
                filler.unlink()
                after = Counter({post(address, large): 1}) + honest(address, 2)
                return meanwhile, after, is_ready(address)
        finally:
            subprocess.run(["umount", "-l", scratch], check=True)


def memory(seconds: float) -> tuple[Answers, Answers, bool]:
    """A control group with little memory, and videos whose decoding takes much of it, six at once."""
    group = _memory_group()
    try:
        settings = {"ADAFOCUS_DECODE_MEMORY_BYTES": str(1 << 30)}
        with service([f"echo $$ > {group}/cgroup.procs;"], settings) as running:
            address = address_of(running)
            costly_video(60, 5120, 2880)
            with attack("large_videos", address):
                time.sleep(1)
                meanwhile = honest(address, seconds)
            meanwhile["(decoders that the kernel ended)"] = _ended_by_the_kernel(group)
            return meanwhile, honest(address, 2), is_ready(address)
    finally:
        for _ in range(50):
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


def _memory_group() -> Path:
    """A control group, of version 1 or 2, that has the limit."""
    first = (GROUPS / "memory").is_dir()
    group = GROUPS / ("memory" if first else "") / f"adafocus-torture-{os.getpid()}"
    group.mkdir()
    limit = group / ("memory.limit_in_bytes" if first else "memory.max")
    limit.write_text(str(MEMORY_LIMIT_BYTES), encoding="ascii")
    return group


def _ended_by_the_kernel(group: Path) -> int:
    for name in ("memory.events", "memory.oom_control"):
        if (group / name).exists():
            fields = dict(line.split() for line in (group / name).read_text(encoding="ascii").splitlines())
            return int(fields.get("oom_kill", 0))
    return 0


SHORTAGES: dict[str, Callable[[float], tuple[Answers, Answers, bool]]] = {
    function.__name__: function for function in (descriptors, disk, memory)
}


def breaches(meanwhile: Answers, after: Answers, *, ready: bool) -> int:
    """Answers that must not be given: errors of ours, lost connections, and anything but 200 once it is over."""
    bad = sum(count for text, count in meanwhile.items() if text.startswith("500") or text.isalpha())
    return bad + sum(count for text, count in after.items() if text != "200") + (not ready)


def main() -> int:
    """Let the machine run out of things, print, and say whether the service stood it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", choices=sorted(SHORTAGES), action="append")
    parser.add_argument("--write", metavar="VARIANT")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for name in options.only or list(SHORTAGES):
        if name != "descriptors" and os.geteuid() != 0:
            print(f"{name} needs root: left out")
            continue
        meanwhile, after, ready = SHORTAGES[name](options.seconds)
        rows.append(
            {
                "shortage": name,
                "meanwhile": json.dumps(meanwhile),
                "after": json.dumps(after),
                "ready_after": ready,
                "breaches": breaches(meanwhile, after, ready=ready),
                "seconds": options.seconds,
            }
        )
        print(rows[-1], flush=True)
    if options.write:
        print(write_results("shortages", options.write, rows))
    return int(any(row["breaches"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
