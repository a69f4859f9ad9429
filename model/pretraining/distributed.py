"""The few things the pretraining loop asks of torchrun: who am I, agree on a number, collect states.

Without torchrun everything here is the identity, so the loop has one form.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed as dist


@dataclass(frozen=True)
class World:
    """Place of this process among all processes of the run."""

    rank: int
    """0 is the process that logs and writes."""
    size: int
    """Number of processes."""
    device: torch.device
    """Device of this process."""

    @property
    def is_first(self) -> bool:
        """Whether this process logs and writes."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """Rank 0's number, on every rank."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def largest(self, value: float) -> float:
        """The largest of the ranks' numbers, on every rank."""
        if self.size == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(shared, dist.ReduceOp.MAX)
        return float(shared)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in order of rank, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """Join the processes started by torchrun (gloo on the CPU, nccl on CUDA); alone without it.

    Args:
        device: `auto`, `cpu` or `cuda`; under torchrun each process takes the CUDA device of its local rank.

    Raises:
        ValueError: an unknown device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"unknown device '{device}': expected auto, cpu or cuda")
    on_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local_rank = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    own = torch.device("cuda", local_rank) if on_cuda else torch.device("cpu")
    if size == 1:
        yield World(rank=0, size=1, device=own)
        return
    if on_cuda:
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if on_cuda else "gloo")
    try:
        yield World(rank=rank, size=size, device=own)
    finally:
        # DistributedDataParallel is a circle that holds the group, whose threads hold tensors: if they are still there when
        # the interpreter is taken down, the process is aborted (pytorch/pytorch pull request 179291).
        gc.collect()
        dist.destroy_process_group()
