"""What a mask file says, as numbers: its regions, and where on the image they sit."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.errors import ImageError, MaskError
from threecad.images.files import read_size
from threecad.images.masks import decode_mask
from threecad.images.regions import Region, RotatedRect, find_runs, measure
from threecad.images.resizing import coverage
from threecad.system.caching import FileCache, remembered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.images.masks import MaskRule

__all__ = ["GRID", "MaskMeasures", "measure_masks", "read_sizes"]

GRID = 32
"""Rows and columns of the cells in which the positions of defects are counted."""

_VERSION = 1


@dataclass(frozen=True)
class MaskMeasures:
    """What a mask file says.

    Attributes:
        height: Pixels; 0 if the file does not decode.
        width: Pixels; 0 if the file does not decode.
        rule: The decoding rule used.
        findings: Codes of what is odd (see ``threecad.images.masks.DecodedMask``).
        classes: Number of classes of a label map; 0 for any other mask.
        regions: The 8-connected regions.
        rectangle: The rectangle of minimum area round all defect pixels.
        cells: For each cell of a ``GRID`` × ``GRID`` grid over the image that has defect pixels,
            its number (row by row) and which part of it they cover.
        problem: Why the file does not decode; ``None`` if it does.
    """

    height: int = 0
    width: int = 0
    rule: str = ""
    findings: tuple[str, ...] = ()
    classes: int = 0
    regions: tuple[Region, ...] = ()
    rectangle: RotatedRect | None = None
    cells: tuple[tuple[int, float], ...] = ()
    problem: str | None = None


def measure_masks(
    root: Path,
    masks: Sequence[Path],
    *,
    rule: MaskRule | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    progress: bool = False,
) -> dict[Path, MaskMeasures]:
    """Return the measures of each mask file; those of unchanged files are not made again."""
    name = f"regions-{rule}" if rule else "regions"
    return {
        path: _unpack(record)
        for path, record in remembered(
            FileCache(root, name, version=_VERSION),
            {path: path for path in masks},
            _MeasureMask(rule),
            workers=workers,
            cluster=cluster,
            description="masks" if progress else None,
        ).items()
    }


def read_sizes(
    root: Path,
    images: Sequence[Path],
    *,
    workers: int | None = None,
    cluster: str | None = None,
    progress: bool = False,
) -> dict[Path, tuple[int, int]]:
    """Return ``(height, width)`` of each image, from its header; (0, 0) where it cannot be read."""
    records = remembered(
        FileCache(root, "sizes", version=_VERSION),
        {path: path for path in images},
        _read_size,
        workers=workers,
        cluster=cluster,
        description="sizes" if progress else None,
    )
    return {path: (height, width) for path, (height, width) in records.items()}


def _read_size(path: Path) -> tuple[int, int]:
    try:
        return read_size(path)
    except ImageError:
        return 0, 0


@dataclass(frozen=True)
class _MeasureMask:
    rule: MaskRule | None

    def __call__(self, path: Path) -> dict[str, Any]:
        try:
            decoded = decode_mask(path, rule=self.rule)
        except MaskError as error:
            return _pack(MaskMeasures(problem=str(error).removeprefix(f"{path}: ")))
        runs = find_runs(decoded.mask)
        found, rectangle = measure(runs)
        cells = coverage(runs, (GRID, GRID)).ravel()
        filled = np.flatnonzero(cells)
        return _pack(
            MaskMeasures(
                height=runs.size[0],
                width=runs.size[1],
                rule=decoded.rule,
                findings=decoded.findings,
                classes=len(decoded.classes),
                regions=tuple(found),
                rectangle=rectangle,
                cells=tuple((int(cell), round(float(cells[cell]), 6)) for cell in filled),
            )
        )


def _pack(measures: MaskMeasures) -> dict[str, Any]:
    return asdict(measures)


def _unpack(record: dict[str, Any]) -> MaskMeasures:
    rectangle = record["rectangle"]
    return MaskMeasures(
        **{
            **record,
            "findings": tuple(record["findings"]),
            "regions": tuple(_unpack_region(region) for region in record["regions"]),
            "rectangle": None if rectangle is None else _unpack_rectangle(rectangle),
            "cells": tuple((cell, part) for cell, part in record["cells"]),
        }
    )


def _unpack_region(record: dict[str, Any]) -> Region:
    x, y, width, height = record["bbox"]
    centroid_x, centroid_y = record["centroid"]
    return Region(
        **{
            **record,
            "bbox": (x, y, width, height),
            "rotated_rect": _unpack_rectangle(record["rotated_rect"]),
            "centroid": (centroid_x, centroid_y),
        }
    )


def _unpack_rectangle(record: dict[str, Any]) -> RotatedRect:
    return RotatedRect(tuple(record["center"]), tuple(record["sides"]), record["angle"])
