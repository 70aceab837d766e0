"""The real sandbox in a separate process: each forbidden and each allowed action is tried.

A test asks for what the report promises. On a kernel that offers less, less is asked; something always is.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

MEMORY_BYTES = 64 << 20

ATTEMPTS = """
import ctypes, errno, json, mmap, os, resource, signal, socket, sys, threading
from dataclasses import asdict
from pathlib import Path
import numpy as np
from adafocus.service.decode.worker import sandbox

control = socket.socket(fileno=int(sys.argv[1]))
victim = sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
own_file = os.open(victim, os.O_RDWR)
address = sys.argv[3]

report = sandbox.enter(int(sys.argv[4]), parent=os.getppid())

def trace_parent():
    if libc.ptrace(ctypes.c_long(16), ctypes.c_long(os.getppid()), None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")

def fork():
    if os.fork() == 0:
        os._exit(0)
    os.wait()

def executable_memory():
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)

def connect():
    with socket.socket(socket.AF_UNIX) as away:
        away.connect(address)

def much_memory():
    np.ones(128 << 20, dtype=np.uint8)

def thread():
    started = threading.Thread(target=lambda: None)
    started.start()
    started.join()

attempts = {
    "read a file": lambda: Path(victim).read_bytes(),
    "list a folder": lambda: os.listdir("/"),
    "write a new file": lambda: Path(victim + ".new").write_bytes(b"x"),
    "grow an open file": lambda: os.pwrite(own_file, b"x" * 100, 1 << 20),
    "write to an open file": lambda: os.write(own_file, b"x"),
    "remove a file": lambda: os.unlink(victim),
    "change a mode": lambda: os.chmod(victim, 0o777),
    "look for a file": lambda: os.stat(victim),
    "make a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
    "connect": connect,
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "spawn a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "fork": fork,
    "trace the parent": trace_parent,
    "signal the parent": lambda: os.kill(os.getppid(), 0),
    "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2),
    "executable memory": executable_memory,
    "much memory": much_memory,
    "little memory": lambda: np.ones(8 << 20, dtype=np.uint8),
    "read an open file": lambda: os.pread(own_file, 1, 0),
    "start a thread": thread,
}
outcome = {}
for name, attempt in attempts.items():
    try:
        attempt()
        outcome[name] = "done"
    except BaseException as error:
        outcome[name] = type(error).__name__
control.send(json.dumps({"report": asdict(report), "outcome": outcome}).encode())
os._exit(0)
"""


@pytest.fixture(scope="module")
def tried() -> dict[str, Any]:
    """What a sandboxed process reported, and what came of each attempt."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        victim, address = Path(folder, "victim"), str(Path(folder, "socket"))
        victim.write_bytes(b"secret")
        victim.chmod(0o644)
        listener.bind(address)
        listener.listen()
        process = subprocess.run(
            [sys.executable, "-c", ATTEMPTS, str(theirs.fileno()), str(victim), address, str(MEMORY_BYTES)],
            pass_fds=(theirs.fileno(),),
            check=True,
            timeout=120,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[4],
        )
        assert process.returncode == 0
        theirs.close()
        result: dict[str, Any] = json.loads(ours.recv(1 << 16))
        result["victim"] = victim.read_bytes()
        result["left"] = sorted(path.name for path in Path(folder).iterdir())
        return result


def expect_refused(tried: dict[str, Any], *names: str) -> None:
    outcome = tried["outcome"]
    done = [name for name in names if outcome[name] == "done"]
    assert not done, outcome


def test_the_report_says_what_is_missing(tried: dict[str, Any]) -> None:
    report = tried["report"]
    for layer, name in (("landlock", "landlock"), ("seccomp", "seccomp"), ("no_new_privileges", "no_new_privs")):
        assert bool(report[layer]) != any(missing.startswith(name) for missing in report["missing"])


def test_some_layer_holds_on_this_machine(tried: dict[str, Any]) -> None:
    assert tried["report"]["landlock"] or tried["report"]["seccomp"]
    assert tried["report"]["memory_limit_bytes"]


def test_no_file_is_opened_or_made(tried: dict[str, Any]) -> None:
    if tried["report"]["landlock"] or tried["report"]["seccomp"]:
        expect_refused(tried, "read a file", "list a folder", "write a new file", "remove a file")
    assert tried["left"] == ["socket", "victim"]


def test_no_file_grows_even_through_a_descriptor_that_writes(tried: dict[str, Any]) -> None:
    expect_refused(tried, "grow an open file")
    if tried["report"]["seccomp"]:
        expect_refused(tried, "write to an open file")
        assert tried["victim"] == b"secret"


def test_nothing_leaves_and_nothing_is_started(tried: dict[str, Any]) -> None:
    if tried["report"]["seccomp"]:
        expect_refused(
            tried,
            *("change a mode", "look for a file", "make a socket", "connect", "run a program", "spawn a program"),
            *("fork", "start a thread", "trace the parent", "signal the parent", "raise a limit", "executable memory"),
        )


def test_memory_is_bounded(tried: dict[str, Any]) -> None:
    assert tried["outcome"]["much memory"].endswith("MemoryError")  # numpy has one of its own


def test_what_decoding_needs_still_works(tried: dict[str, Any]) -> None:
    for name in ("little memory", "read an open file"):
        assert tried["outcome"][name] == "done"


def test_a_machine_without_a_list_is_reported() -> None:
    script = """
import os, sys
from unittest import mock
from adafocus.service.decode.worker import sandbox
with mock.patch.object(sandbox, "MACHINES", {}):
    report = sandbox.enter(64 << 20, parent=os.getppid())
sys.stdout.write(repr((report.seccomp, [m for m in report.missing if "list of system calls" in m])))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[4]
    )
    assert done.stdout.startswith("(False, ['capabilities: no list of system calls"), done.stderr
    assert "seccomp: no list" in done.stdout


def test_a_worker_whose_parent_is_gone_does_not_begin() -> None:
    script = (
        "from adafocus.service.decode.worker import sandbox; sandbox.enter(64 << 20, parent=1 << 22); print('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[4]
    )
    assert (done.returncode, done.stdout) == (0, "")
