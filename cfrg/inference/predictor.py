"""From images to anomaly maps, scores, regions and decisions."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch

from cfrg.devices import compute_in_forked_children, find_device
from cfrg.images.frames import to_rgb
from cfrg.images.sources import each_image
from cfrg.images.tiling import Mosaic, Tiling
from cfrg.images.workers import read_in_workers
from cfrg.inference.policy import DecisionPolicy
from cfrg.inference.prediction import Prediction
from cfrg.inference.preparing import READERS, Prepared, PreparedFiles, prepare
from cfrg.inference.regions import find_regions
from cfrg.inference.streaming import Later, read_in_threads
from cfrg.inference.thresholds import Threshold, digest_weights
from cfrg.network import processing
from cfrg.network.interest import find_misfit
from cfrg.run_folder import RunFolder
from cfrg.runtimes.compiled import choose_runtime, compile_detector
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt
    from PIL import Image

    from cfrg.network.config import CFRGConfig

    Source = npt.NDArray[np.uint8] | torch.Tensor | Image.Image | str | os.PathLike[str]

__all__ = ["MapPredictor", "Prediction", "Predictor", "Prepared"]

PIXELS_AT_A_TIME = 16 * 256**2
"""Of the network's inputs on a CPU."""


class MapPredictor(Protocol):
    """What can be asked for anomaly maps: ``CFRG``, ``NearestNeighbourMemory``."""

    config: CFRGConfig

    def predict_maps(self, image: torch.Tensor) -> torch.Tensor:
        """Return the smoothed maps (N, 1, H, W) of normalised images (N, 3, H, W)."""
        ...


class Predictor:
    """Runs a detector on files, arrays or a stream of images, in batches.

    Reading and resizing go on in threads, or in ``workers`` processes, while the network
    computes. The maps do not depend on workers; batches of another size, and another ``runtime``,
    change them by rounding alone (by less than 2e-5). A threshold that ``cfrg calibrate`` found is
    the score of a good image in PyTorch, on its good side; rounding may put that image, or one as
    close, on the other side, which is why no runtime is chosen unless asked for.

    Args:
        detector: The trained model, or the memory.
        device: Where to compute; CUDA if there is one when ``None``. Of a runtime, see ``runtime``.
        batch_size: Images, or tiles, at a time, at most; on a CPU no more than ``PIXELS_AT_A_TIME``
            together, which would take memory and save no time.
        workers: Processes that read files; 0 reads them in up to four threads.
        tile: Side of the tiles that images are cut into, in their pixels; 0 for whole images,
            ``None`` for what the model was made for.
        overlap: Pixels that neighbouring tiles share; ``None`` for what the model was made for, or
            a quarter of the ``tile`` given.
        threshold: Image scores above it mean a defect; that of the policy when ``None``.
        pixel_threshold: Map values above it belong to a region; that of the policy when ``None``.
        policy: What decides, where no threshold is given; no decisions and regions when ``None``.
        runtime: What the network runs in: ``torch``; ``onnx``, ONNX Runtime, on ``cpu`` or
            ``cuda`` (when ``None``, if the installed one has it); ``openvino``, on ``cpu`` (when
            ``None``) or ``gpu``; ``auto``, the first of these two that is installed and computes
            on the device, else PyTorch. The network is exported once,
            which takes seconds, and used only if its maps are those of PyTorch within 1e-4 of
            their range; else PyTorch computes, with a warning.
        runtime_folder: Where the exported network is kept; in the user's cache when ``None``.

    Raises:
        UsageError: If the overlap is not smaller than the tile, a threshold is not finite, there is
            no such runtime or device, or the one asked for is not installed.
    """

    def __init__(
        self,
        detector: MapPredictor,
        *,
        device: str | None = None,
        batch_size: int = 16,
        workers: int = 0,
        tile: int | None = None,
        overlap: int | None = None,
        threshold: float | None = None,
        pixel_threshold: float | None = None,
        policy: DecisionPolicy | None = None,
        runtime: str = "torch",
        runtime_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self.policy = (policy or DecisionPolicy()).with_given(threshold, pixel_threshold)
        compute_in_forked_children()
        runtime, device = choose_runtime(runtime, device)
        # What another runtime takes and gives is on the CPU, wherever it computes.
        self.device = find_device(device if runtime == "torch" else "cpu")
        self.detector, self.batch_size, self.workers = detector, batch_size, workers
        self.any_shape = False  # True: also images of another shape than the region's
        elsewhere = runtime != "torch" and device not in (None, "cpu")
        if self.device.type == "cpu" and not elsewhere:
            height, width = detector.config.image_size
            self.batch_size = min(batch_size, max(1, PIXELS_AT_A_TIME // (height * width)))
        self.tiling = Tiling.from_config(detector.config, tile, overlap)
        if detector.config.by_place and self.tiling.tile:
            raise UsageError(
                "This memory knows what is usual at each place of a whole image, so it cannot be "
                "asked about tiles. Leave the tiles out."
            )
        if isinstance(detector, torch.nn.Module):
            detector.to(self.device).eval()
        folded = getattr(detector, "folded", None)  # the same maps with less to compute
        compiled = None
        if runtime != "torch":
            kept = None if runtime_folder is None else Path(runtime_folder)
            compiled = compile_detector(cast("Any", detector), runtime, device or "cpu", kept)
            if compiled is None and device is not None and device.startswith("cuda"):
                self.device = find_device(device)  # PyTorch computes instead
                detector.to(self.device)  # type: ignore[attr-defined]
        # PyTorch's own threads and several readers were in each other's way on small images.
        self._readers = READERS if compiled else 1
        self._network: MapPredictor = compiled or (folded() if folded else detector)

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        calibrated: bool = True,
        **options: Any,
    ) -> Predictor:
        """Return a predictor with a trained model, and with its thresholds if it has some.

        Args:
            model: A run folder, or ``owner/name`` on the Hub.
            revision: Branch, tag or commit of the repository.
            calibrated: Take the thresholds that ``cfrg calibrate`` found, where none are given.
            **options: Of the predictor.

        Raises:
            ModelError: If there is no such model, or its thresholds belong to other weights.
            UsageError: If its thresholds belong to other tiles.
        """
        from cfrg.inference.loading import load_model

        network = load_model(model, revision=revision)
        if Path(model).is_dir():
            options.setdefault("runtime_folder", RunFolder(model).runtimes)
        predictor = cls(network, **options)
        stored = network.companions.get("calibration.json")
        given = options.get("threshold"), options.get("pixel_threshold")
        wanted = options.get("policy") is None and None in given
        if calibrated and stored is not None and wanted:
            threshold = Threshold.from_dict(stored, f"{model}/calibration.json")
            tiles = predictor.tiling
            region = network.config.region
            threshold.check(digest_weights(network), tiles.tile, tiles.overlap, region)
            predictor.policy = threshold.policy.with_given(*given)
        return predictor

    @property
    def threshold(self) -> float | None:
        """Image scores above it mean a defect."""
        return self.policy.defective

    @property
    def pixel_threshold(self) -> float | None:
        """Map values above it belong to a region."""
        return self.policy.pixel_threshold

    @property
    def category(self) -> str | None:
        """The category that the model was trained on; ``None`` for all of them, or if unknown."""
        companions = getattr(self.detector, "companions", {})
        category = companions.get("run.json", {}).get("category")
        return None if category in (None, "all") else str(category)

    def predict(
        self, images: Source | Iterable[Source | tuple[str, Source]]
    ) -> Iterator[Prediction]:
        """Yield a prediction for each image of any size.

        The source may be endless, such as a camera: threads prepare a few images ahead, and a
        prediction comes when its batch is full (``batch_size=1`` for one at a time). What is no
        image, ``None`` for one, gives a prediction with its ``error``, and the stream goes on. What
        the source raises is raised here, after the predictions of all that it gave before.

        Args:
            images: Arrays, tensors and PIL images as in ``cfrg.images.frames``, files, folders or
                patterns; pairs of an id and such an image; or a single one. Without an id, it is
                the position, ``"0"``, ``"1"``, …, or the file name; of a folder or pattern that of
                ``find_images``.

        Raises:
            DataError: If a folder or pattern holds no image.
            UsageError: If ``images`` is nothing to iterate over, or a mapping.
        """
        each = enumerate(each_image(images, self.category))
        prepared = (self._name_and_prepare(i, image) for i, image in each)
        return self.predict_prepared(read_in_threads(prepared, self._depth, self._readers))

    def predict_files(self, files: Sequence[tuple[str, Path]]) -> Iterator[Prediction]:
        """Yield a prediction for each (id, file), in order."""
        prepared = PreparedFiles(files, self.tiling)
        if not self.workers:
            later = (Later(partial(prepared.__getitem__, i)) for i in range(len(prepared)))
            return self.predict_prepared(read_in_threads(later, self._depth, self._readers))
        return self.predict_prepared(
            read_in_workers(prepared, self.workers, batch_size=None, collate_fn=_leave_as_it_is)
        )

    @torch.inference_mode()
    def predict_prepared(self, images: Iterable[Prepared]) -> Iterator[Prediction]:
        """Yield a prediction for each image that is resized already.

        What ``images`` raises is raised after the predictions of those it gave before.
        """
        waiting: deque[_Pending] = deque()  # images some of whose tiles are not computed
        batch: list[tuple[_Pending, torch.Tensor]] = []
        failures: list[Exception] = []
        for image in _until_failure(images, failures):
            waiting.append(pending := _Pending(image, self.tiling))
            for tile in pending.cut():
                batch.append((pending, tile))
                if len(batch) == self.batch_size:
                    self._compute(batch)
                    batch = []
            while waiting and waiting[0].complete:
                yield self._judge(waiting.popleft())
        if batch:
            self._compute(batch)
        for pending in waiting:
            yield self._judge(pending)
        if failures:
            raise failures[0]

    def prepare(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return an image (H, W, 3) uint8 at the size that tiles are cut from, (h, w, 3) uint8.

        Raises:
            ImageError: If it is no such image, or too large for these tiles.
        """
        return self.tiling.place(image)

    @property
    def _depth(self) -> int:
        return 2 if self.tiling.tile else 2 * self.batch_size

    def _name_and_prepare(self, position: int, image: Any) -> Prepared | Later[Prepared]:
        name = str(position)
        if isinstance(image, tuple) and len(image) == 2 and isinstance(image[0], str):
            name, image = image
        elif isinstance(image, (str, os.PathLike)):
            name = Path(image).name
        ready = partial(prepare, name, partial(to_rgb, image, self.tiling.bits), self.tiling)
        # A camera writes its next frame into the memory of this one, so only files can wait.
        return Later(ready) if isinstance(image, (str, os.PathLike)) else ready()

    def _compute(self, batch: list[tuple[_Pending, torch.Tensor]]) -> None:
        begun = time.perf_counter()
        tiles = torch.stack([tile for _, tile in batch]).to(self.device)
        maps = self._network.predict_maps(processing.normalize(tiles, self.detector.config))
        arrays = maps[:, 0].float().cpu().numpy()
        seconds = (time.perf_counter() - begun) / len(batch)
        for (pending, _), anomaly_map in zip(batch, arrays, strict=True):
            pending.add(anomaly_map, seconds)

    def _judge(self, pending: _Pending) -> Prediction:
        image = pending.image
        if pending.map is None:
            return Prediction(image.id, None, float("nan"), error=image.error)
        reason = None if self.any_shape else find_misfit(self.detector.config.region, image.size)
        if reason:
            return Prediction(image.id, None, float("nan"), error=reason)
        blended = torch.from_numpy(np.ascontiguousarray(pending.map.blended))
        maps, scores = processing.finish(blended[None, None], self.detector.config)
        anomaly_map, score = maps[0, 0].numpy(), float(scores[0])
        if not math.isfinite(score):
            reason = "The network's answer is not a number. Its weights may be damaged."
            return Prediction(image.id, None, float("nan"), error=reason)
        begun = time.perf_counter()
        policy = self.policy.of(self.policy.category_of(image.id))
        regions = None
        if policy.pixel_threshold is not None:
            found = find_regions(anomaly_map, image.size, policy.pixel_threshold)
            regions = policy.count(found)
        return Prediction(
            image.id,
            anomaly_map,
            score,
            size=image.size,
            decision=None if policy.defective is None else policy.decide(score, regions=regions),
            regions=regions,
            seconds=(
                ("read", image.seconds),
                ("network", pending.seconds),
                ("regions", time.perf_counter() - begun),
            ),
            appearance=image.appearance,
        )


class _Pending:
    """An image whose tiles are being computed."""

    def __init__(self, image: Prepared, tiling: Tiling) -> None:
        self.image, self.tiling, self.seconds = image, tiling, 0.0
        self.map: Mosaic | None = None
        if image.canvas is not None:
            self.map = Mosaic(tiling, (image.canvas.shape[1], image.canvas.shape[2]))

    @property
    def complete(self) -> bool:
        return self.map is None or self.map.complete

    def cut(self) -> Iterator[torch.Tensor]:
        """Yield the tiles; none of a broken image."""
        if self.image.canvas is not None:
            yield from self.tiling.cut(self.image.canvas)

    def add(self, tile: npt.NDArray[np.float32], seconds: float) -> None:
        """Add what the network says about the next tile."""
        assert self.map is not None
        self.seconds += seconds
        self.map.add(tile)


def _until_failure(items: Iterable[Prepared], failures: list[Exception]) -> Iterator[Prepared]:
    """Yield items; what they raise ends them and is added to ``failures``."""
    try:
        yield from items
    except Exception as error:  # whatever a camera raises
        failures.append(error)


def _leave_as_it_is(item: Any) -> Any:
    return item
