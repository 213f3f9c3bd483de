"""A folder of predictions: anomaly maps and image scores of any model.

    PREDICTIONS/maps/<id>.npy|npz|tiff|png    one map (H, W) per image; npz: under the key "map"
    PREDICTIONS/scores.csv|scores.jsonl       at least the columns id and score
    PREDICTIONS/meta.json                     {"scale": …, "offset": …} where maps are 16-bit PNG

A 16-bit PNG stores ``(value - offset) / scale``; one scale and offset serve all maps, since maps of
different images are compared with each other.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import struct
import tokenize
import unicodedata
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from threecad.errors import EvaluationError, ImageError, UsageError
from threecad.evaluation.counting.maps import as_number
from threecad.images.files import open_image
from threecad.system import atomic
from threecad.system.json_files import read_object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["MapFormat", "PredictionFolder", "PredictionWriter", "read_map", "write_map"]

MapFormat = Literal["npy", "npz", "tiff", "png", "png16"]

# What NumPy raises on broken files.
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    MemoryError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)

SUFFIXES = frozenset({".npy", ".npz", ".tif", ".tiff", ".png"})
PNG_STEPS = 65535
FLOATS = (np.float16, np.float32, np.float64)


class PredictionFolder:
    """The predictions in a folder. Maps are read when they are asked for.

    Args:
        folder: A predictions folder, see the module.

    Attributes:
        maps: Sample id → map file.
        scores: Sample id → image score; ``None`` if the folder has no table of scores.

    Raises:
        EvaluationError: If the folder has neither maps nor scores, or a file of it is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise EvaluationError(f"There is no folder {self.folder}. {_EXPECTED}")
        self.maps = _find_maps(self.folder / "maps")
        self.scores = _read_scores(self.folder)
        if not self.maps and self.scores is None:
            raise EvaluationError(f"{self.folder} holds no predictions. {_EXPECTED}")
        self.scale, self.offset = 1.0, 0.0
        if any(path.suffix.lower() == ".png" for path in self.maps.values()):
            self.scale, self.offset = _read_meta(self.folder)

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self.maps

    def __getitem__(self, sample_id: str) -> NDArray[np.floating[Any]]:
        """Return the map of one sample: ``(H, W)``, float as stored, float32 for PNG.

        Raises:
            EvaluationError: If there is none or it cannot be read.
        """
        if sample_id not in self.maps:
            raise EvaluationError(f"{self.folder} has no map of {sample_id!r}.")
        return read_map(self.maps[sample_id], scale=self.scale, offset=self.offset)


class PredictionWriter:
    """Writes a predictions folder, map by map; the table appears when the block ends well.

    >>> with PredictionWriter("predictions") as writer:
    ...     writer.add("Aluminum_Ipad/test/good/001", anomaly_map, score)

    Nothing but the ids is kept in memory.

    Args:
        folder: Where to write; made if missing.
        map_format: ``npy`` keeps every bit; ``png`` needs ``scale`` and ``offset``; ``png16`` takes
            them from the lowest and the highest value, which are known when the last map is: until
            then the maps lie there as ``.npy``.
        scale: For ``png``: the step between two of the 65,536 values.
        offset: For ``png``: the score that is stored as 0.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        map_format: MapFormat = "npy",
        scale: float | None = None,
        offset: float | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.map_format = map_format
        self.scale, self.offset = scale, offset
        self._range = (math.inf, -math.inf)
        self._added: set[str] = set()
        self._columns: list[str] = []
        if map_format == "png" and (scale is None or offset is None):
            raise UsageError("16-bit PNG maps need one scale and offset for all maps.")

    @property
    def count(self) -> int:
        """Number of predictions written."""
        return len(self._added)

    def add(
        self,
        sample_id: str,
        anomaly_map: NDArray[np.floating[Any]] | None,
        score: float,
        **columns: Any,
    ) -> None:
        """Write one map, ``(H, W)`` float, its image score, and further columns of the table.

        Raises:
            UsageError: If the id would lead out of the folder, or was added before, or the first
                prediction had other columns.
        """
        name = _safe(sample_id)
        if name in self._added:
            raise UsageError(f"{sample_id!r} was added before; one prediction per image.")
        row = {"id": sample_id, "score": float(score), **columns}
        if self._columns and self._columns != [*row]:
            raise UsageError(f"{sample_id!r} has the columns {[*row]}, others {self._columns}.")
        if anomaly_map is not None:
            suffix = "npy" if self.map_format == "png16" else self.map_format
            path = self.folder / "maps" / f"{name}.{suffix}"
            write_map(path, anomaly_map, scale=self.scale, offset=self.offset)
            low, high = self._range
            self._range = min(low, float(anomaly_map.min())), max(high, float(anomaly_map.max()))
        self._added.add(name)
        if not self._columns:
            self._begin_table([*row])
        self._table.writerow(row.values())

    def __enter__(self) -> PredictionWriter:
        if self.map_format == "png":
            self._write_meta()
        self._open = ExitStack()
        scores = atomic.replacing(self.folder / "scores.csv")
        temporary = self._open.enter_context(scores)
        file = self._open.enter_context(temporary.open("w", newline="", encoding="utf-8"))
        self._table = csv.writer(file, lineterminator="\n")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and not self._columns:
            self._begin_table(["id", "score"])
        self._open.__exit__(kind, error, trace)
        if kind is None and self.map_format == "png16":
            self._convert_to_png()

    def _begin_table(self, columns: list[str]) -> None:
        self._columns = columns
        self._table.writerow(columns)

    def _write_meta(self) -> None:
        atomic.write_json(self.folder / "meta.json", {"scale": self.scale, "offset": self.offset})

    def _convert_to_png(self) -> None:
        """Write the maps anew, in steps of one size between the lowest and the highest value."""
        low, high = self._range
        self.scale = (high - low) / PNG_STEPS if high > low else 1.0
        self.offset = low if math.isfinite(low) else 0.0
        self._write_meta()
        for path in sorted((self.folder / "maps").rglob("*.npy")):
            png = path.with_suffix(".png")
            write_map(png, read_map(path), scale=self.scale, offset=self.offset)
            path.unlink()


def write_map(
    path: str | os.PathLike[str],
    anomaly_map: NDArray[np.floating[Any]],
    *,
    scale: float | None = None,
    offset: float | None = None,
) -> None:
    """Write one anomaly map, ``(H, W)`` float, in the format of the suffix, atomically.

    Args:
        path: Ends in ``.npy``, ``.npz``, ``.tif``, ``.tiff`` (up to float32) or ``.png``.
        anomaly_map: The map.
        scale: For PNG, the step between two values.
        offset: For PNG, the score stored as 0. Values outside the range are clipped.

    Raises:
        UsageError: If the map is not ``(H, W)`` float or the format cannot hold it.
    """
    path = Path(path)
    values = np.asarray(anomaly_map)
    if values.ndim != 2 or values.dtype not in FLOATS:
        raise UsageError(f"Expected a map (H, W) of floats, got {values.shape} {values.dtype}.")
    suffix = path.suffix.lower()
    with atomic.replacing(path) as temporary:
        if suffix == ".npy":
            _save(temporary, values)
        elif suffix == ".npz":
            np.savez_compressed(temporary, map=values)
        elif suffix in (".tif", ".tiff"):
            if values.dtype == np.float64:
                raise UsageError("TIFF maps are float32. Convert the map, or write .npy.")
            Image.fromarray(values.astype(np.float32)).save(
                temporary, format="TIFF", compression="tiff_adobe_deflate"
            )
        elif suffix == ".png":
            if not scale or offset is None or not math.isfinite(scale + offset):
                raise UsageError("A 16-bit PNG map needs a finite scale, not 0, and an offset.")
            steps = np.rint((values.astype(np.float64) - offset) / scale)
            Image.fromarray(np.clip(steps, 0, PNG_STEPS).astype(np.uint16)).save(
                temporary, format="PNG"
            )
        else:
            raise UsageError(f"{path.name}: expected .npy, .npz, .tiff or .png.")


def read_map(
    path: str | os.PathLike[str], *, scale: float = 1.0, offset: float = 0.0
) -> NDArray[np.floating[Any]]:
    """Return the anomaly map in a file, ``(H, W)`` float; see ``write_map``.

    Raises:
        EvaluationError: If the file is damaged or holds something else.
    """
    path = Path(path)
    try:
        values = _read_values(path)
    except (ImageError, *_BROKEN) as error:
        reason = error.reason if isinstance(error, ImageError) else str(error).rstrip(".")
        raise EvaluationError(f"{path} cannot be read as an anomaly map: {reason}.") from None
    if path.suffix.lower() == ".png":
        if values.dtype not in (np.uint16, np.int32):
            raise EvaluationError(f"{path} is not a 16-bit grey PNG: {values.dtype}.")
        values = (values * np.float64(scale) + offset).astype(np.float32)
    if values.ndim != 2 or values.size == 0 or values.dtype not in FLOATS:
        raise EvaluationError(
            f"{path} holds {values.shape} {values.dtype}; expected (H, W) float16, 32 or 64."
        )
    return values


_EXPECTED = (
    "Expected maps/<Category>/<split>/<defect_type>/<stem>.npy (or npz, tiff, png) in it and, "
    "where image scores are not read from the maps, scores.csv or scores.jsonl with the columns "
    "id and score."
)


def _save(path: Path, values: NDArray[Any]) -> None:
    try:
        np.save(path, values)
    except OSError as error:
        if error.errno is None:  # NumPy counts the bytes that were written, and no more
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def _read_values(path: Path) -> NDArray[Any]:
    if path.suffix.lower() in (".npy", ".npz"):
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.lib.npyio.NpzFile):
            with stored as archive:
                stored = archive["map"]
        return np.asarray(stored, stored.dtype.newbyteorder("="))
    return np.asarray(open_image(path, one_frame=True))


def _find_maps(folder: Path) -> dict[str, Path]:
    maps: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        relative = path.relative_to(folder)
        sample_id = unicodedata.normalize("NFC", relative.with_suffix("").as_posix())
        if sample_id in maps:
            raise EvaluationError(f"Two maps for {sample_id!r}: {maps[sample_id]} and {path}.")
        maps[sample_id] = path
    return maps


def _read_scores(folder: Path) -> dict[str, float] | None:
    tables = [path for path in (folder / "scores.csv", folder / "scores.jsonl") if path.is_file()]
    if not tables:
        return None
    if len(tables) == 2:
        raise EvaluationError(f"{folder} has scores.csv and scores.jsonl. Remove one of them.")
    path = tables[0]
    try:
        rows = list(_read_rows(path))
    except (csv.Error, ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} cannot be read as a table of scores: {error}.") from None
    scores: dict[str, float] = {}
    for number, row in enumerate(rows, 1):
        try:
            sample_id = unicodedata.normalize("NFC", str(row["id"]))
            score = float(row["score"]) if path.suffix == ".csv" else as_number(row["score"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise EvaluationError(
                f"{path}: row {number} is {str(row)[:100]}; expected the columns id and score, "
                "and a number as score."
            ) from None
        if sample_id in scores:
            raise EvaluationError(f"{path} has two scores for {sample_id!r}.")
        scores[sample_id] = score
    return scores


def _read_rows(path: Path) -> Iterator[Any]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        yield from csv.DictReader(io.StringIO(text))
        return
    for number, line in enumerate(text.split("\n"), 1):  # splitlines() cuts inside of strings
        try:
            if line.strip():
                yield json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from None


def _read_meta(folder: Path) -> tuple[float, float]:
    path = folder / "meta.json"
    try:
        meta = read_object(path)
        scale, offset = _number(meta["scale"]), _number(meta["offset"])
    except (OSError, KeyError, TypeError, ValueError, OverflowError):
        found = "this file holds something else" if path.exists() else "there is no such file"
        raise EvaluationError(
            f'PNG maps need {path} with one scale and offset for all maps, such as {{"scale": '
            f'0.0001, "offset": 0}}; {found}.'
        ) from None
    if not math.isfinite(scale) or not math.isfinite(offset) or scale == 0:
        raise EvaluationError(f"{path}: scale {scale} and offset {offset} give no scores.")
    return scale, offset


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _safe(sample_id: str) -> str:
    parts = sample_id.split("/")
    if not sample_id or "\\" in sample_id or any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"{sample_id!r} is no sample id: it leads out of the folder.")
    return sample_id
