"""The device to compute on, and what a process that computes on a CPU needs from the system."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import TYPE_CHECKING

from threecad.errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = [
    "M_MMAP_THRESHOLD",
    "M_TRIM_THRESHOLD",
    "compute_in_forked_children",
    "find_device",
    "suit_process_to_tensors",
]


def find_device(name: str | None = None) -> torch.device:
    """Return a device to compute on.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, …; CUDA if there is one, else the CPU when ``None``.

    Raises:
        UsageError: If torch knows no such device, or this machine has none.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(
            f"`device={name}`: no such device. Expected cpu, cuda, cuda:1, …"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"`device={name}`: this machine has no usable CUDA device. Use `device=cpu`."
        )
    try:
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError):  # which of them depends on the device
        raise UsageError(
            f"`device={name}`: this machine or the installed torch cannot compute on it. "
            "Use `device=cpu`."
        ) from None
    return device


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and values of glibc's malloc.h


def suit_process_to_tensors() -> None:
    """Let threads wait quietly and keep freed memory; for the main program, before torch is loaded.

    Results stay the same, bit for bit.
    """
    # By default OpenMP's threads spin while they wait for each other. On a machine that does
    # anything else at the same time, a training step then takes many times longer; a short spin
    # costs nothing otherwise. It is read when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # By default glibc hands the memory of every large tensor back to the system and asks for it
    # anew: 70,000 page faults in a training step of `lite`, and 15 % of its time.
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # not in musl
        libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


@cache
def compute_in_forked_children() -> None:
    """Let processes that are forked from this one from now on compute, on one thread.

    A fork takes none of the threads along that torch has started, and would wait for them for ever.
    """
    import torch

    if hasattr(os, "register_at_fork"):  # not in Windows, which does not fork
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
