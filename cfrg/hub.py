"""CFRG as a folder or a repository: ``from_pretrained``, ``save_pretrained``, ``push_to_hub``.

A run folder is such a folder. It holds ``config.json`` and ``model.safetensors`` (all tensors, the
frozen teacher's too, so that nothing else is ever fetched), and beside them what is known of the
run: ``run.json``, ``result.json``, ``calibration.json``.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import nn

from cfrg.cards import MARKER, make_card
from cfrg.config import CFRGConfig
from cfrg.weights import assign_tensors, read_safetensors, write_safetensors
from threecad import atomic
from threecad.errors import ModelError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from typing_extensions import Self

__all__ = ["COMPANIONS", "PretrainedModel", "read_config", "write_card"]

COMPANIONS = ("run.json", "result.json", "calibration.json")
"""What travels with a model, where it is there: content by file name in ``CFRG.companions``."""


class PretrainedModel(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="threecad",
    pipeline_tag="image-segmentation",
    tags=["3cad", "anomaly-detection", "anomaly-segmentation", "industrial-inspection"],
    paper_url="https://arxiv.org/abs/2502.05761",
):
    """A network that folders and Hub repositories can hold; the base of ``cfrg.CFRG``.

    Args:
        config: What the network is made of.

    Attributes:
        config: The same.
        companions: Parsed JSON files that travel with the model, by file name.
    """

    def __init__(self, config: CFRGConfig) -> None:
        super().__init__()
        self.config = config
        self.companions: dict[str, Any] = {}

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        subfolder: str | None = None,
        revision: str | None = None,
        strict: bool = True,
        map_location: str | torch.device = "cpu",
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        **overrides: Any,
    ) -> Self:
        """A trained model from a folder or a Hub repository, in evaluation mode.

        Args:
            pretrained_model_name_or_path: A run folder, or ``owner/name`` on the Hub.
            subfolder: Folder inside it that holds ``config.json``.
            revision: Branch, tag or commit of the repository.
            strict: Refuse weights that lack tensors or have others; False takes those that fit.
            map_location: Device of the model.
            token: Hub token.
            cache_dir: Folder of downloaded files.
            force_download: Download again what is cached.
            local_files_only: Use cached files only.
            **overrides: Values that replace those of ``config.json``, e.g. ``smoothing_sigma=2``.

        Raises:
            ModelError: No such folder or repository, or files that do not fit together.
        """
        source = str(pretrained_model_name_or_path)
        if Path(source).is_dir():
            folder = Path(source, subfolder or "")
            locate: Callable[[str], Path] = folder.joinpath
        else:
            _check_repository(source)

            def locate(name: str) -> Path:
                return _download(
                    source,
                    name,
                    subfolder=subfolder,
                    revision=revision,
                    token=token,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                )

        values = _read_config_json(locate("config.json"))
        config = CFRGConfig.from_dict({**values, **overrides})
        with torch.device("meta" if strict else "cpu"):  # no values that would be replaced
            model = cls(config)
        weights = locate("model.safetensors")
        assign_tensors(model, read_safetensors(weights), str(weights), strict=strict)
        model.to(memory_format=torch.channels_last)
        model.companions = _read_companions(locate)
        return model.to(map_location).eval()

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **options: Any,
    ) -> str | None:
        """Write weights, configuration, companions and model card; each file whole or not at all.

        A ``README.md`` that a person has written or edited is left alone.

        Args:
            save_directory: The folder; made if it is not there.
            repo_id: Repository to push to; the folder's name by default.
            push_to_hub: Push afterwards.
            **options: For ``push_to_hub``.

        Returns:
            The address of the commit if pushed.
        """
        folder = Path(save_directory)
        tensors = self.state_dict()
        write_safetensors(folder / "model.safetensors", tensors)
        atomic.write_json(folder / "config.json", self.config.to_dict())
        for name, content in self.companions.items():
            atomic.write_json(folder / name, content)
        write_card(folder)
        if push_to_hub:
            return self.push_to_hub(repo_id or folder.resolve().name, **options)
        return None

    def push_to_hub(self, repo_id: str, *, private: bool | None = True, **options: Any) -> str:
        """Upload weights, configuration and model card to the Hugging Face Hub.

        Args:
            repo_id: ``owner/name``; made if it is not there.
            private: Whether a new repository is private. It is unless told otherwise: the licence
                of the data the model was trained on may not allow more.
            **options: As for ``huggingface_hub.PyTorchModelHubMixin.push_to_hub``.

        Returns:
            The address of the commit.
        """
        return super().push_to_hub(repo_id, private=private, **options)


def read_config(folder: Path) -> CFRGConfig:
    """The configuration of a run folder.

    Raises:
        ModelError: It holds none.
    """
    return CFRGConfig.from_dict(_read_config_json(folder / "config.json"))


def write_card(folder: Path) -> None:
    """Write the model card of a run folder anew, from what lies in it.

    A ``README.md`` that a person has written or edited is left alone.

    Args:
        folder: Holds ``config.json`` and perhaps ``run.json`` and ``result.json``.

    Raises:
        ModelError: It holds no configuration.
    """
    card = folder / "README.md"
    if card.exists() and MARKER not in card.read_text(encoding="utf-8", errors="replace"):
        return
    atomic.write_text(card, make_card(read_config(folder), _read_companions(folder.joinpath)))


class _AbsentError(ModelError):
    """A file that is not in a folder or repository, or not to be had from it."""


def _check_repository(source: str) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source) or source.startswith((".", "~")):
        raise ModelError(
            f"{source}: no such folder, and not the name of a Hub repository either "
            "(owner/name). Give the run folder that `cfrg train --out` wrote."
        )


def _download(repository: str, name: str, **options: Any) -> Path:
    """Path of a file of a Hub repository in the local cache.

    Raises:
        ModelError: It is not there or cannot be reached.
    """
    try:
        return Path(hf_hub_download(repository, name, **options))
    except LocalEntryNotFoundError:
        raise _AbsentError(
            f"{repository}: no such folder here, and {name} is neither cached nor can the Hub be "
            "reached. Check the name and the network."
        ) from None
    except EntryNotFoundError:
        raise _AbsentError(f"{repository}: has no {name}") from None
    except RevisionNotFoundError:
        raise ModelError(f"{repository}: no revision {options['revision']!r}") from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"{repository}: no such folder here, and no such repository on the Hub. "
            "If it is private, log in with `hf auth login`."
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(f"{repository}: cannot be fetched from the Hub ({error})") from None


def _read_config_json(path: Path) -> dict[str, Any]:
    values = _read_json(path)
    if not isinstance(values, dict):
        raise ModelError(f"{path}: not a configuration of CFRG")
    return values


def _read_companions(locate: Callable[[str], Path]) -> dict[str, Any]:
    companions = {}
    for name in COMPANIONS:
        with suppress(_AbsentError):
            companions[name] = _read_json(locate(name))
    return companions


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _AbsentError(
            f"{path}: no such file. A run folder holds config.json and model.safetensors."
        ) from None
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error})") from None
