"""The place of this process among those that train together: alone, or one of several started by ``torchrun``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from adafocus.training.errors import DataError

PATIENCE = timedelta(days=1)
"""Longest wait of the other processes for the first, which decodes the data set for all."""


@dataclass(frozen=True)
class Place:
    """The rank of this process, the number of processes, and the device that it trains on."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """True for the process that prints, writes files and evaluates."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until every process has reached this point."""
        if self.world > 1:
            dist.barrier()

    def spread(self, objective: nn.Module, *, every_part_learns: bool) -> nn.Module:
        """The objective with gradients averaged over all processes."""
        if self.world == 1:
            return objective
        ids = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(objective, device_ids=ids, find_unused_parameters=not every_part_learns)


@contextmanager
def joined(device: str | None = None) -> Iterator[Place]:
    """Join the processes that train together, and yield this process's place among them.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``; None takes a GPU if there is one.

    Raises:
        DataError: no such device.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if world == 1:
        yield Place(chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Place(chosen, rank, world)
    finally:
        dist.destroy_process_group()


def _device(name: str | None, local_rank: int) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DataError(f"there is no device {name!r}; permitted: cpu, cuda, cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise DataError(f"training on {name!r} is not tested; permitted: cpu, cuda, cuda:N")
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise DataError(f"{name!r} was asked for, and torch sees no GPU")
    device = torch.device("cuda", local_rank if device.index is None else device.index)
    torch.cuda.set_device(device)
    return device
