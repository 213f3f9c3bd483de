"""From images to anomaly maps and scores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from cfrg.preprocessing import normalize, resize, to_tensor
from threecad.errors import DataError, ImageError, UsageError
from threecad.images import read_image
from threecad.indexing import IMAGE_SUFFIXES, find_root, scan

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from cfrg.config import CFRGConfig

__all__ = ["Detector", "Prediction", "Predictor", "find_images"]


class Detector(Protocol):
    """What can be asked for anomaly maps: ``CFRG``, ``NearestNeighbourMemory``."""

    config: CFRGConfig

    def predict(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return maps (N, 1, H, W) and scores (N,) of normalised images (N, 3, H, W)."""
        ...


@dataclass(frozen=True)
class Prediction:
    """What a detector says about one image.

    Attributes:
        id: Sample id, or relative path without suffix for a loose file.
        map: (H, W) float32 smoothed anomaly map at the network's input size; higher is more
            anomalous. ``None`` when the image could not be read.
        score: The image score.
        error: Why there is no map.
    """

    id: str
    map: npt.NDArray[np.float32] | None
    score: float
    error: str | None = None


class Predictor:
    """Runs a detector on files, arrays or a stream of images, in batches.

    Args:
        detector: The trained model, or the memory.
        device: Where to compute; CUDA if there is one when ``None``.
        batch_size: Images at a time.
        workers: Processes that decode; 0 decodes in this one.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        device: str | None = None,
        batch_size: int = 16,
        workers: int = 0,
    ) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.detector, self.batch_size, self.workers = detector, batch_size, workers
        if isinstance(detector, torch.nn.Module):
            detector.to(self.device).eval()

    @classmethod
    def from_run(cls, run: str | os.PathLike[str], **options: Any) -> Predictor:
        """Return a predictor with the model of a run folder.

        Raises:
            ModelError: If the folder holds no model.
        """
        from cfrg.model import CFRG

        return cls(CFRG.from_pretrained(run), **options)

    def predict(
        self, images: Iterable[npt.NDArray[np.uint8] | Image.Image | str | os.PathLike[str]]
    ) -> Iterator[Prediction]:
        """Yield a prediction for each image of any size: (H, W, 3) uint8 arrays, PIL images, files.

        The ids are the positions, ``"0"``, ``"1"``, …, or the file names. Batches are filled as
        images come, so the source may be endless.
        """
        batch: list[tuple[str, torch.Tensor | str]] = []
        for position, image in enumerate(images):
            batch.append(self._load(position, image))
            if len(batch) == self.batch_size:
                yield from self._compute(batch)
                batch = []
        yield from self._compute(batch)

    def predict_files(self, files: Sequence[tuple[str, Path]]) -> Iterator[Prediction]:
        """Yield a prediction for each (id, file), in order; decoding overlaps computing."""
        loader = DataLoader(
            _Files(files, self.detector.config.image_size),
            batch_size=self.batch_size,
            num_workers=self.workers,
            collate_fn=list,
        )
        for batch in loader:
            yield from self._compute(batch)

    def _load(self, position: int, image: Any) -> tuple[str, torch.Tensor | str]:
        if isinstance(image, Image.Image):
            return str(position), self._to_tensor(np.asarray(image.convert("RGB")))
        if isinstance(image, np.ndarray):
            return str(position), self._to_tensor(image)
        return Path(image).name, _read(Path(image), self.detector.config.image_size)

    def _to_tensor(self, image: npt.NDArray[np.uint8]) -> torch.Tensor:
        return to_tensor(resize(image, self.detector.config.image_size))

    @torch.inference_mode()
    def _compute(self, batch: list[tuple[str, torch.Tensor | str]]) -> Iterator[Prediction]:
        good = [image for _, image in batch if isinstance(image, torch.Tensor)]
        maps: Iterator[npt.NDArray[np.float32]] = iter(())
        scores: Iterator[float] = iter(())
        if good:
            images = normalize(torch.stack(good).to(self.device), self.detector.config)
            smoothed, values = self.detector.predict(images)
            maps = iter(smoothed[:, 0].float().cpu().numpy())
            scores = iter(values.float().cpu().tolist())
        for name, image in batch:
            if isinstance(image, str):
                yield Prediction(name, None, float("nan"), error=image)
            else:
                yield Prediction(name, next(maps), next(scores))


class _Files(Dataset["tuple[str, torch.Tensor | str]"]):
    """Files at the network's input size; a broken one gives its error instead."""

    def __init__(self, files: Sequence[tuple[str, Path]], size: tuple[int, int]) -> None:
        self.files, self.size = files, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int) -> tuple[str, torch.Tensor | str]:
        name, path = self.files[position]
        return name, _read(path, self.size)


def find_images(
    paths: Sequence[str | os.PathLike[str]],
    *,
    category: str | None = None,
    split: str = "test",
    split_file: str | os.PathLike[str] | None = None,
    errata: str | os.PathLike[str] | None = None,
    fold: int | None = None,
) -> list[tuple[str, Path]]:
    """Return (id, file) of every image under ``paths``, sorted by id.

    A tree in the 3CAD layout gives the samples of ``split`` (and ``category``) under their sample
    ids; any other folder all its images under their relative paths without suffix; a file itself.

    Raises:
        DataError: If a path does not exist, nothing is found, or two files get one id.
    """
    found: dict[str, Path] = {}
    for name, path in _walk(paths, category, split, split_file, errata, fold):
        if name in found:
            raise DataError(f"{found[name]} and {path} both have the id {name!r}. Rename one.")
        found[name] = path
    if not found:
        raise DataError(f"There is no image in {', '.join(map(str, paths)) or 'nothing'}.")
    return sorted(found.items())


def _walk(
    paths: Sequence[str | os.PathLike[str]],
    category: str | None,
    split: str,
    split_file: str | os.PathLike[str] | None,
    errata: str | os.PathLike[str] | None,
    fold: int | None,
) -> Iterator[tuple[str, Path]]:
    for path in map(Path, paths):
        if path.is_file():
            yield path.stem, path
        elif not path.is_dir():
            raise DataError(f"There is no file or folder {path}.")
        elif _is_tree(path):
            for sample in scan(path, split_file=split_file, errata=errata, fold=fold).select(
                category=category, split=split
            ):
                yield sample.id, sample.image
        else:
            for file in sorted(path.rglob("*")):
                if file.suffix.casefold() in IMAGE_SUFFIXES and not file.name.startswith("."):
                    yield file.relative_to(path).with_suffix("").as_posix(), file


def _is_tree(path: Path) -> bool:
    try:
        find_root(path)
    except DataError:
        return False
    return True


def _read(path: Path, size: tuple[int, int]) -> torch.Tensor | str:
    try:
        return to_tensor(resize(read_image(path), size))
    except (ImageError, UsageError) as error:
        return str(error)
