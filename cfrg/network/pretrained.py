"""CFRG as a folder or a repository: ``from_pretrained``, ``save_pretrained``, ``push_to_hub``.

A run folder is such a folder. It holds ``config.json`` and ``model.safetensors`` (all tensors, the
frozen teacher's too, so that nothing else is ever fetched), and beside them what is known of the
run: ``run.json``, ``result.json``, ``calibration.json``.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from cfrg.network.cards import MARKER, make_card
from cfrg.network.config import CFRGConfig
from cfrg.network.digest import digest_tensors
from cfrg.run_folder import CALIBRATION, RECORD, RESULT, RunFolder, check_record, digest_of
from cfrg.teachers.hub_files import AbsentError, check_repository, download_file
from cfrg.teachers.tensors import assign_tensors, read_safetensors, write_safetensors
from threecad.errors import EvaluationError, ModelError
from threecad.system import atomic
from threecad.system.json_files import read_object

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from typing import Self

__all__ = ["COMPANIONS", "PretrainedModel", "find_config", "read_config", "write_card"]

COMPANIONS = {
    RECORD: "record of a training",
    RESULT: "result of an evaluation",
    CALIBRATION: "set of thresholds",
}
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
        locate = _locator(
            source,
            subfolder=subfolder,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
        )
        values = _read_config_json(locate("config.json"))
        config = CFRGConfig.from_dict({**values, **overrides})
        # Before the weights: whoever has these in the cache knows what belongs to them.
        companions = _read_companions(locate)
        with torch.device("meta" if strict else "cpu"):  # no values that would be replaced
            model = cls.blank(config)
        weights = locate("model.safetensors")
        tensors = read_safetensors(weights)
        assign_tensors(model, tensors, str(weights), strict=strict)
        model.to(memory_format=torch.channels_last)
        if any(digest_of(name, content) for name, content in companions.items()):
            digest = digest_tensors(CFRGConfig.from_dict(values), tensors)
            companions = _keep_own(companions, digest, source)
        model.companions = companions
        return model.to(map_location).eval()

    @classmethod
    def blank(cls, config: CFRGConfig) -> Self:
        """A model whose tensors are still to be put in place.

        Raises:
            ModelError: If the configuration is that of another kind of model.
        """
        return cls(config)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **options: Any,
    ) -> str | None:
        """Write weights, configuration, companions and model card.

        A run that is there with other weights is replaced in one step, with all that belongs to
        it; files that are none of a run's stay, and so does a ``README.md`` that a person has
        written or edited. Companions that were made with other weights are left out.

        Args:
            save_directory: The folder; made if it is not there.
            repo_id: Repository to push to; the folder's name by default.
            push_to_hub: Push afterwards.
            **options: For ``push_to_hub``.

        Returns:
            The address of the commit if pushed.

        Raises:
            BusyError: If another process is writing the folder.
        """
        run = RunFolder(save_directory)
        digest = digest_tensors(self.config, self.state_dict())
        with run.writing():
            if run.holds_run and _digest_stored(run) != digest:
                successor = run.begin_successor()
                keep_own_card(run, successor)
                self.write_run(successor)
                run.finish_successor()
            else:
                self.write_run(run)
        if push_to_hub:
            return self.push_to_hub(repo_id or run.path.resolve().name, **options)
        return None

    def write_run(self, run: RunFolder) -> None:
        """Write the model's files one by one, each whole or not at all, the weights last.

        Args:
            run: A folder without a model, or with this one.
        """
        tensors = self.state_dict()
        digest = digest_tensors(self.config, tensors)
        atomic.write_json(run.config, self.config.to_dict())
        for name, content in self.companions.items():
            if name == RECORD and digest_of(name, content):
                atomic.write_json(run.record, {**content, "weights_digest": digest})
            elif digest_of(name, content) in (None, digest):
                atomic.write_json(run.path / name, content)
            else:
                _say_foreign(name, str(run.path))
        _write_card(run, digest)
        write_safetensors(run.weights, tensors)

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


def find_config(
    source: str | os.PathLike[str],
    *,
    subfolder: str | None = None,
    revision: str | None = None,
    **options: Any,
) -> CFRGConfig:
    """The configuration of a run folder, or of ``owner/name`` on the Hub.

    Args:
        source: One or the other.
        subfolder: Folder inside it that holds ``config.json``.
        revision: Branch, tag or commit of the repository.
        **options: As for ``PretrainedModel.from_pretrained``.

    Raises:
        ModelError: There is none.
    """
    locate = _locator(str(source), subfolder=subfolder, revision=revision, **options)
    return CFRGConfig.from_dict(_read_config_json(locate("config.json")))


def read_config(folder: Path) -> CFRGConfig:
    """The configuration of a run folder.

    Raises:
        ModelError: It holds none.
    """
    return CFRGConfig.from_dict(_read_config_json(RunFolder(folder).config))


def write_card(folder: Path) -> None:
    """Write the model card of a run folder anew, from what lies in it.

    A ``README.md`` that a person has written or edited is left alone.

    Args:
        folder: Holds a model and perhaps ``run.json`` and ``result.json``.

    Raises:
        ModelError: It holds no configuration.
    """
    run = RunFolder(folder)
    _write_card(run, _digest_stored(run))


def keep_own_card(run: RunFolder, successor: RunFolder) -> None:
    """Copy a ``README.md`` that a person has written or edited into what replaces the run."""
    if _is_own_card(run.card):
        atomic.write_bytes(successor.card, run.card.read_bytes())


def _locator(
    source: str, *, subfolder: str | None, local_files_only: bool = False, **options: Any
) -> Callable[[str], Path]:
    """What finds the files of a run folder or a repository by their names."""
    if Path(source).is_dir():
        return Path(source, subfolder or "").joinpath
    check_repository(source)
    options |= {"subfolder": subfolder, "local_files_only": local_files_only}
    return partial(download_file, source, **options)


def _is_own_card(card: Path) -> bool:
    return card.exists() and MARKER not in card.read_text(encoding="utf-8", errors="replace")


def _write_card(run: RunFolder, digest: str | None) -> None:
    if _is_own_card(run.card):
        return
    config, companions = read_config(run.path), _read_companions(run.path.joinpath)
    if digest:
        companions = _keep_own(companions, digest, str(run.path))
    try:
        card = make_card(config, companions)
    except (EvaluationError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{run.result} cannot be shown on the model card: {error} Write it anew with `cfrg "
            "evaluate`, or remove it."
        ) from error
    atomic.write_text(run.card, card)


def _digest_stored(run: RunFolder) -> str | None:
    """Digest of the weights in a folder; ``None`` if it holds none that can be read."""
    try:
        return digest_tensors(read_config(run.path), read_safetensors(run.weights))
    except ModelError:
        return None


def _keep_own(companions: Mapping[str, Any], digest: str, where: str) -> dict[str, Any]:
    """Those of the companions that belong to these weights, or do not say to which.

    Thresholds are kept, as ``Threshold.check`` refuses them where they are used.

    Raises:
        ModelError: The record of the training belongs to others.
    """
    kept = {}
    for name, content in companions.items():
        if name == CALIBRATION or digest_of(name, content) in (None, digest):
            kept[name] = content
        elif name == RECORD:
            raise ModelError(
                f"{where}: {RECORD} describes the training of other weights than those in "
                "model.safetensors, or of another config.json. Put the files of one run together "
                f"again; if only {RECORD} is at hand, load the model from a folder without it."
            )
        else:
            _say_foreign(name, where)
    return kept


def _say_foreign(name: str, where: str) -> None:
    warnings.warn(
        f"{where}: {name} belongs to other weights or another configuration, and is left out.",
        stacklevel=4,
    )


def _read_config_json(path: Path) -> dict[str, Any]:
    return _read_object(path, "configuration of CFRG")


def _read_companions(locate: Callable[[str], Path]) -> dict[str, Any]:
    companions = {}
    for name in COMPANIONS:
        try:
            path = locate(name)
            companions[name] = _read_object(path, COMPANIONS[name])
            if name == RECORD:
                check_record(companions[name])
        except AbsentError:
            continue
        except ValueError as error:
            raise ModelError(
                f"{path}: no record of a training ({error}). Restore it, or remove it to use the "
                "model without."
            ) from None
    return companions


def _read_object(path: Path, what: str) -> dict[str, Any]:
    try:
        return read_object(path)
    except FileNotFoundError:
        raise AbsentError(
            f"{path}: no such file. A run folder holds config.json and model.safetensors."
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: not a {what} ({error}). Restore it; results and thresholds can also be "
            "removed and found anew with `cfrg evaluate` and `cfrg calibrate`."
        ) from None
