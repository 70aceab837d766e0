"""The template of decode workers: a process that has imported what decoding needs, and forks a worker when it is asked.

It reads no video. A worker that is forked from it is as fresh as one that was started as a program, but costs a few
milliseconds instead of half a second. It is not the template's child but the service's, which so learns how it ended.

Where a process cannot be forked in this way, the template becomes the worker itself, and the service starts another
template for the next one.

Source: ``man 2 clone``, `CLONE_PARENT`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket

from adafocus.service.decode.worker.seccomp import MACHINES

READY = b"ready"
"""Its first message: from now on it forks at once."""

BECOME = 0
"""The answer of a template that becomes the worker itself."""

_CLONE_PARENT = 0x00008000
_MOST_BYTES = 16


def serve(requests: socket.socket) -> socket.socket | None:
    """Fork a worker for every request, each of which comes with the worker's control socket.

    Args:
        requests: a blocking SEQPACKET socket; the answers are process ids, as decimal numbers.

    Returns:
        In a worker, its control socket; in the template None, once the service has closed its end.
    """
    requests.send(READY)
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(requests, _MOST_BYTES, 1)
        except OSError:
            return None
        if not data or not fds:
            return None
        pid = fork_sibling()
        if pid is None or pid == 0:
            if pid is None:
                requests.send(b"%d" % BECOME)
            requests.close()
            return socket.socket(fileno=fds[0])
        os.close(fds[0])
        requests.send(b"%d" % pid)


def fork_sibling() -> int | None:
    """Fork a process whose parent is this one's parent.

    Returns:
        Its id; 0 in the new process; None if it could not be forked.
    """
    machine = MACHINES.get(os.uname().machine)
    if machine is None:
        return None
    libc = ctypes.PyDLL(None)  # keeps the interpreter's lock, which the new process could not get otherwise
    python = ctypes.pythonapi
    flags = ctypes.c_ulong(_CLONE_PARENT | signal.SIGCHLD)
    nothing = ctypes.c_ulong(0)
    python.PyOS_BeforeFork()
    pid = int(libc.syscall(ctypes.c_long(machine.clone), flags, nothing, nothing, nothing, nothing))
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    return None if pid < 0 else pid
