"""Read tensors from files that others made, and put them where they belong.

Nothing here executes what a file contains: safetensors hold no code, and pickles are read with
``weights_only``, which builds tensors, containers and a short list of named plain types only.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from threecad.errors import ModelError
from threecad.system import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn


__all__ = [
    "assign_tensors",
    "read_pickle",
    "read_safetensors",
    "read_state_dict",
    "write_safetensors",
]

SHOWN = 8  # keys a message names before it says how many more there are


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU.

    Raises:
        ModelError: The file is missing or is not a safetensors file.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: not a safetensors file ({error}). It may be cut short: fetch it again."
        ) from None


def read_pickle(path: Path, safe_globals: Sequence[Any] = ()) -> Any:
    """What ``torch.save`` wrote, on the CPU, without running code from the file.

    Args:
        path: A ``.pth`` or ``.pt`` file.
        safe_globals: Plain types the file may hold besides tensors and containers.

    Raises:
        ModelError: The file is missing, cut short, or holds an object of another type.
    """
    try:
        with torch.serialization.safe_globals(list(safe_globals)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what matters raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: refused, because it holds more than tensors and plain values, and reading "
            f"it could run code ({_first_line(error)}). Ask its author for the state dict alone, "
            "saved as safetensors."
        ) from None
    except (EOFError, OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            f"{path}: not a checkpoint that torch can read ({_first_line(error)}). "
            "It may be cut short: fetch it again."
        ) from None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A state dict from ``.safetensors`` or from a pickle that holds nothing but tensors.

    Raises:
        ModelError: The file cannot be read, or holds something else than named tensors.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    content = read_pickle(path)
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ModelError(f"{path}: expected a state dict, that is tensors by name")
    return dict(content)


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a safetensors file, whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic.replacing(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(plain, temporary, metadata={"format": "pt", **(metadata or {})})
        except SafetensorError as error:
            if number := re.search(r"os error (\d+)", str(error)):
                code = int(number[1])
                raise OSError(code, os.strerror(code), str(temporary)) from error
            raise
        temporary.chmod(mode)  # safetensors lets nobody but the owner read


def assign_tensors(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, *, strict: bool = True
) -> None:
    """Put tensors into the module; every key and every shape must fit.

    A module on the meta device takes over the tensors themselves; another one copies their
    values, so that its device and memory format stay.

    Args:
        module: Receives the values.
        tensors: By the module's own names.
        source: What the message calls the origin, e.g. the file name.
        strict: False takes the tensors that fit and leaves the others.

    Raises:
        ModelError: Keys are missing, left over or of another shape; all are counted.
    """
    own = module.state_dict()
    if not strict:
        fitting = {k: v for k, v in tensors.items() if k in own and own[k].shape == v.shape}
        module.load_state_dict(fitting, strict=False)
        return
    missing = [key for key in own if key not in tensors]
    left_over = [key for key in tensors if key not in own]
    misshapen = [
        f"{key} is {tuple(tensors[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    problems = [
        f"{what}: {_enumerate(keys)}"
        for what, keys in (
            ("missing", missing),
            ("not known", left_over),
            ("of another shape", misshapen),
        )
        if keys
    ]
    if problems:
        raise ModelError(f"{source} does not fit the model.\n  " + "\n  ".join(problems))
    if next(module.parameters()).is_meta:
        tensors = {key: tensors[key].to(own[key].dtype) for key in own}
        module.load_state_dict(tensors, assign=True)
    else:
        module.load_state_dict(tensors)


def _enumerate(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
