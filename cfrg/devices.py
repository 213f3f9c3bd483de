"""The device that is asked for, if it is there."""

from __future__ import annotations

import torch

from threecad.errors import UsageError

__all__ = ["find_device"]


def find_device(name: str | None = None) -> torch.device:
    """Return a device to compute on.

    Args:
        name: ``cpu``, ``cuda``, ``cuda:1``, …; CUDA if there is one, else the CPU when ``None``.

    Raises:
        UsageError: If torch knows no such device, or this machine has none.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(
            f"--device {name}: no such device. Expected cpu, cuda, cuda:1, …"
        ) from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"--device {name}: this machine has no usable CUDA device. Use --device cpu."
        )
    try:
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError):  # which of them depends on the device
        raise UsageError(
            f"--device {name}: this machine or the installed torch cannot compute on it. "
            "Use --device cpu."
        ) from None
    return device
