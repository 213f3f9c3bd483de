"""Bring checkpoints of the authors' code into this one.

Their ``save_weights/model_<Category>.pth`` is a pickle with the keys model, optimizer,
lr_scheduler, epoch, args and scaler; only ``model`` is needed, and a bare state dict does, too.
Nothing in the file is executed.
"""

from __future__ import annotations

import argparse
import collections
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cfrg.network.config import CFRGConfig
from cfrg.network.digest import digest_tensors
from cfrg.network.model import CFRG
from cfrg.run_folder import RunFolder
from cfrg.teachers.efficientnet import rename_efficientnet
from cfrg.teachers.tensors import assign_tensors, read_pickle, read_safetensors
from threecad.errors import ModelError, UsageError
from threecad.images.hashing import hash_file

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["UNUSED", "ImportedCheckpoint", "convert_checkpoint", "import_checkpoint"]

UNUSED: dict[str, str] = {
    r"teacher\.(layer4|fc)\.": "the teacher's layer4 and classifier, which nothing reads",
    r"bn\.(conv4|bn4)\.": "conv4 and bn4 of the feature fusion, which nothing calls",
    r"student\._blocks\.(11|12|13|14|15)\.": "blocks 11 to 15 of the student, past the last tap",
    r"student\.(_conv_head|_bn1|_fc)\.": "head and classifier of the student, past the last tap",
}
"""Pattern of keys that take no part in the result, and what they are."""


@dataclass(frozen=True)
class ImportedCheckpoint:
    """A converted checkpoint.

    Attributes:
        model: The paper's network with the file's weights, in evaluation mode.
        dropped: Keys of the file that take no part in the result, by what they are.
        epoch: Epoch the file says it was written after, if it says so.
        arguments: Command-line arguments the file says it was trained with.
    """

    model: CFRG
    dropped: dict[str, list[str]]
    epoch: int | None
    arguments: dict[str, Any]


def import_checkpoint(path: Path) -> ImportedCheckpoint:
    """Convert a checkpoint of the authors' code.

    Args:
        path: A ``.pth`` of theirs, or its bare state dict as ``.pth`` or ``.safetensors``.

    Raises:
        ModelError: The file cannot be read, needs code to be read, or any key or shape differs
            from the authors' network.
    """
    if path.suffix == ".safetensors":
        content: Any = read_safetensors(path)
    else:
        content = read_pickle(path, [argparse.Namespace, collections.Counter])
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__}, expected a checkpoint")
    state = content.get("model", content)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(
            f"{path}: expected a state dict, alone or under the key 'model'; "
            f"found {', '.join(map(str, list(content)[:8]))}"
        )
    dropped: dict[str, list[str]] = {what: [] for what in UNUSED.values()}
    used: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if reason := _reason_to_drop(key):
            dropped[reason].append(key)
        else:
            used[_rename(key)] = tensor
    with torch.device("meta"):
        model = CFRG(CFRGConfig.preset("paper"))
    assign_tensors(model, used, str(path))
    model.eval().to(memory_format=torch.channels_last)
    epoch, arguments = content.get("epoch"), content.get("args")
    return ImportedCheckpoint(
        model,
        dropped,
        epoch if isinstance(epoch, int) else None,
        vars(arguments) if isinstance(arguments, argparse.Namespace) else {},
    )


def convert_checkpoint(
    path: Path, run: Path, *, category: str | None = None, force: bool = False
) -> ImportedCheckpoint:
    """Convert a checkpoint of the authors' code into a run folder.

    Args:
        path: Their file.
        run: The folder to write.
        category: What the model was trained on; by default taken from a name such as
            ``model_Copper_Stator.pth``.
        force: Write into a folder that holds something already.

    Raises:
        UsageError: The folder holds something, and ``force`` is not given.
        ModelError: See ``import_checkpoint``.
    """
    if not RunFolder(run).is_empty and not force:
        raise UsageError(
            f"{run} is not empty. Choose another `run`, or replace it with `force=True`."
        )
    imported = import_checkpoint(path)
    named = re.fullmatch(r"model_(.+)", path.stem)
    imported.model.companions["run.json"] = {
        "schema": "cfrg.run/1",
        "category": category or (named[1] if named else "all"),
        "seed": None,
        "data_fingerprint": None,
        "imported_from": {
            "file": path.name,
            "sha256": hash_file(path),
            "epoch": imported.epoch,
            "arguments": {key: str(value) for key, value in imported.arguments.items()},
        },
        "config": imported.model.config.to_dict(),
        "weights_digest": digest_tensors(imported.model.config, imported.model.state_dict()),
    }
    imported.model.save_pretrained(run)
    return imported


def _reason_to_drop(key: str) -> str | None:
    return next((what for pattern, what in UNUSED.items() if re.match(pattern, key)), None)


def _rename(key: str) -> str:
    """Our name for a key of theirs; one that is none of theirs stays as it is."""
    part, _, rest = key.partition(".")
    match part:
        case "student":
            return f"student.{rename_efficientnet(rest, deepest=10)}"
        case "adapter1" | "adapter2" | "adapter3":
            return f"adapters.{int(part[-1]) - 1}.{rest.removeprefix('op.')}"
        case "bn":
            return f"fusion.{_rename_fusion(rest)}"
        case "decoder":
            return re.sub(
                r"^layer(\d)\.(\d+)\.(.+)$",
                lambda m: f"decoder.layers.{int(m[1]) - 1}.{m[2]}.{_rename_block(m[3])}",
                rest,
            )
        case "segment":
            renamed = rest.replace("conv_final.0.", "head.").replace(".upconv.", ".up.")
            return "unet." + renamed.replace(".bn", ".norm")
    return key


def _rename_fusion(rest: str) -> str:
    module, _, leaf = rest.partition(".")
    if module == "bn_layer":
        index, _, block = leaf.partition(".")
        return f"blocks.{index}.{_rename_block(block)}"
    ours = {
        "conv1": "level1.0",
        "bn1": "level1.1",
        "conv2": "level1.3",
        "bn2": "level1.4",
        "conv3": "level2.0",
        "bn3": "level2.1",
    }
    return f"{ours.get(module, module)}.{leaf}"


def _rename_block(rest: str) -> str:
    """Within a bottleneck: body and shortcut are sequences here, named members there."""
    module, _, leaf = rest.partition(".")
    ours = {
        "conv1": "body.0",
        "bn1": "body.1",
        "conv2": "body.3",
        "bn2": "body.4",
        "conv3": "body.6",
        "bn3": "body.7",
        "downsample": "shortcut",
        "upsample": "shortcut",
    }
    return f"{ours.get(module, module)}.{leaf}"
