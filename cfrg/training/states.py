"""The state of a training run on disk: one safetensors file, whole or not there at all."""

from __future__ import annotations

import json
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open

from cfrg.run_folder import RunFolder
from cfrg.teachers.tensors import write_safetensors
from cfrg.training.averaging import own_state
from threecad.errors import ModelError
from threecad.system.disk import FULL
from threecad.system.json_files import parse_object
from threecad.system.locations import user_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from cfrg.training.averaging import WeightAverage
    from cfrg.training.validation import BestWeights

__all__ = ["load_training_state", "resumable", "save_training_state", "state_path"]

Function = TypeVar("Function", bound="Callable[..., Any]")


def resumable(function: Function) -> Function:
    """Have a training say what to do when it meets a full disk.

    Raises:
        ModelError: If there is no room for a file; it is named.
    """

    @wraps(function)
    def explained(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except OSError as error:
            if error.errno not in FULL:
                raise
            held = ""
            if Path(error.filename or "").is_relative_to(user_cache()):
                held = " (`threecad cache clear` does, THREECAD_CACHE names another disk)"
            raise ModelError(
                f"{error.filename}: {error.strerror}. Make room{held}, then start again with "
                "`resume=True`: it goes on from the state that was saved last, which is whole."
            ) from error

    return explained  # type: ignore[return-value]


def state_path(run: Path) -> Path:
    """Return where the training state of a run folder lies."""
    return RunFolder(run).state


def save_training_state(
    run: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    average: WeightAverage | None = None,
    best: BestWeights | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Write all that is needed to go on after ``step`` steps, atomically.

    That includes the scale of fp16's loss. The frozen teacher is left out: it is loaded anew from
    its published weights.
    """
    tensors = {f"model.{name}": value for name, value in own_state(model).items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    if average:
        tensors |= {f"average.{name}": value for name, value in average.values.items()}
    progress: dict[str, Any] = {"step": step}
    if best and best.step:
        tensors |= {f"best.{name}": value for name, value in best.values.items()}
        progress |= {"best_step": best.step, "best_score": best.score}
    if scaler:
        progress["scaler"] = scaler.state_dict()
    write_safetensors(state_path(run), tensors, {"training": json.dumps(progress)})


def load_training_state(
    run: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage | None = None,
    best: BestWeights | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> int:
    """Put a saved state in its places; return the number of steps done, 0 where there is none.

    Raises:
        ModelError: If the file is damaged or belongs to another network.
    """
    path = state_path(run)
    if not path.is_file():
        return 0
    try:
        with safe_open(path, framework="pt") as file:
            progress = parse_object(file.metadata()["training"])
            step = _check_progress(progress)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} is not a training state: {error}. Remove it to start from the beginning."
        ) from error
    own = _part(tensors, "model.")
    expected = {name: value.shape for name, value in own_state(model).items()}
    if {name: value.shape for name, value in own.items()} != expected:
        raise ModelError(
            f"{path} belongs to another network. Use the options the run was started with, or "
            "another `run`."
        )
    try:
        model.load_state_dict(own, strict=False)
        if average:
            for name, value in _part(tensors, "average.").items():
                average.values[name].copy_(value)
        if best and "best_step" in progress:
            best.step, best.score = progress["best_step"], progress["best_score"]
            best.values = {
                name: value.to(own_state(model)[name].device)
                for name, value in _part(tensors, "best.").items()
            }
        if scaler and "scaler" in progress:
            scaler.load_state_dict(progress["scaler"])
        optimizer.load_state_dict(_optimizer_state(optimizer, _part(tensors, "optimizer.")))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} is not a training state: {error}. Remove it to start from the beginning."
        ) from error
    return step


def _check_progress(progress: dict[str, Any]) -> int:
    """Return the number of steps done.

    Raises:
        ValueError: If a value is missing or of another type.
    """
    whole = {name: progress[name] for name in ("step", "best_step") if name in progress}
    if "step" not in whole or any(type(v) is not int or v < 0 for v in whole.values()):
        raise ValueError(f"it has no number of steps: {str(progress)[:80]}")
    if "best_step" in whole and type(progress.get("best_score")) not in (int, float):
        raise ValueError("its best_score is no number")
    return int(whole["step"])


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _optimizer_state(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> dict[str, Any]:
    state: dict[int, dict[str, torch.Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        if value.ndim:  # in the parameter's memory format, which a fused optimiser relies on
            value = torch.empty_like(parameters[int(index)], device="cpu").copy_(value)
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
