"""A Ray cluster of two nodes on this machine, and the processor time that a tree of processes takes."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil

from benchmarks.service_process import ROOT

STORE_BYTES = 80 << 20
"""The least that Ray accepts; rows are small."""

_SAMPLE_SECONDS = 0.1


@contextmanager
def two_nodes() -> Iterator[str]:
    """Run a head and another node with a core each while the block runs; gives the address.

    The nodes are children of this process. Needs the extra ray.
    """
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**node, **agent_ports(), "include_dashboard": False})
    try:
        cluster.add_node(**node, **agent_ports())
        yield str(cluster.address)
    finally:
        cluster.shutdown()


def agent_ports() -> dict[str, int]:
    """Free ports for a node's agents; it waits too short a time for agents that choose them on a busy machine."""
    names = ("metrics_agent_port", "runtime_env_agent_port", "dashboard_agent_listen_port", "metrics_export_port")
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}


@contextmanager
def processor_time() -> Iterator[list[float]]:
    """Fill a list with the seconds of processor time that all descendants of this process take during the block.

    They are sampled ten times a second, so that what a process takes in its last tenth is missed.
    """
    seen: dict[tuple[int, float], float] = {}
    before: dict[tuple[int, float], float] = _times()
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(_SAMPLE_SECONDS):
            seen.update(_times())

    sampler = threading.Thread(target=sample)
    sampler.start()
    spent: list[float] = []
    try:
        yield spent
    finally:
        stop.set()
        sampler.join()
        seen.update(_times())
        spent.append(sum(seconds - before.get(process, 0.0) for process, seconds in seen.items()))


def _times() -> dict[tuple[int, float], float]:
    """By process identity and start: user and system time, without that of its children."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
            found[process.pid, process.create_time()] = times.user + times.system
        except psutil.Error:
            continue
    return found
