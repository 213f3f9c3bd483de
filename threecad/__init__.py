"""threecad: download, check, describe, convert and evaluate 3CAD, industrial surface defects."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from threecad.hub import install_hook
from threecad.version import __version__

# Public name -> the module that defines it. Nothing is imported before it is asked for, so that
# `import threecad` loads neither torch nor datasets.
_EXPORTS: dict[str, str] = {
    "Audit": "threecad.auditing",
    "CATEGORIES": "threecad.dataset.catalog",
    "Category": "threecad.dataset.catalog",
    "DecodedMask": "threecad.images.masks",
    "DefectStatistics": "threecad.statistics",
    "Errata": "threecad.dataset.errata",
    "Evaluator": "threecad.metrics",
    "Finding": "threecad.dataset.findings",
    "Index": "threecad.dataset.scanning",
    "PredictionWriter": "threecad.evaluation.predictions",
    "Region": "threecad.images.regions",
    "Result": "threecad.metrics",
    "Sample": "threecad.dataset.scanning",
    "SplitFile": "threecad.dataset.split_files",
    "ThreeCAD": "threecad.dataset.pytorch",
    "ThreecadError": "threecad.errors",
    "audit": "threecad.auditing",
    "convert": "threecad.formats",
    "decode_mask": "threecad.images.masks",
    "diagnose": "threecad.diagnosis",
    "download": "threecad.fetching",
    "enclosing_rectangle": "threecad.images.regions",
    "evaluate": "threecad.evaluation.pipeline",
    "label_regions": "threecad.images.regions",
    "load_dataset": "threecad.hub",
    "mask_to_polygons": "threecad.images.encodings",
    "mask_to_rle": "threecad.images.encodings",
    "polygons_to_mask": "threecad.images.encodings",
    "read_errata": "threecad.dataset.errata",
    "read_mask": "threecad.images.masks",
    "read_split": "threecad.dataset.split_files",
    "regions": "threecad.images.regions",
    "resize_mask": "threecad.images.resizing",
    "rle_to_mask": "threecad.images.encodings",
    "scan": "threecad.dataset.scanning",
    "split": "threecad.dataset.splitting",
    "stats": "threecad.statistics",
    "verify": "threecad.verification",
    "write_errata": "threecad.auditing.corrections",
    "write_gallery": "threecad.pages.gallery",
    "write_sample": "threecad.procedural",
}

__all__ = [
    "CATEGORIES",
    "Audit",
    "Category",
    "DecodedMask",
    "DefectStatistics",
    "Errata",
    "Evaluator",
    "Finding",
    "Index",
    "PredictionWriter",
    "Region",
    "Result",
    "Sample",
    "SplitFile",
    "ThreeCAD",
    "ThreecadError",
    "__version__",
    "audit",
    "convert",
    "decode_mask",
    "diagnose",
    "download",
    "enclosing_rectangle",
    "evaluate",
    "label_regions",
    "load_dataset",
    "mask_to_polygons",
    "mask_to_rle",
    "polygons_to_mask",
    "read_errata",
    "read_mask",
    "read_split",
    "regions",
    "resize_mask",
    "rle_to_mask",
    "scan",
    "split",
    "stats",
    "verify",
    "write_errata",
    "write_gallery",
    "write_sample",
]

if TYPE_CHECKING:
    from threecad.auditing import Audit, audit
    from threecad.auditing.corrections import write_errata
    from threecad.dataset.catalog import CATEGORIES, Category
    from threecad.dataset.errata import Errata, read_errata
    from threecad.dataset.findings import Finding
    from threecad.dataset.pytorch import ThreeCAD
    from threecad.dataset.scanning import Index, Sample, scan
    from threecad.dataset.split_files import SplitFile, read_split
    from threecad.dataset.splitting import split
    from threecad.diagnosis import diagnose
    from threecad.errors import ThreecadError
    from threecad.evaluation.pipeline import evaluate
    from threecad.evaluation.predictions import PredictionWriter
    from threecad.evaluation.results import Result
    from threecad.fetching import download
    from threecad.formats import convert
    from threecad.hub import load_dataset
    from threecad.images.encodings import (
        mask_to_polygons,
        mask_to_rle,
        polygons_to_mask,
        rle_to_mask,
    )
    from threecad.images.masks import DecodedMask, decode_mask, read_mask
    from threecad.images.regions import Region, enclosing_rectangle, label_regions, regions
    from threecad.images.resizing import resize_mask
    from threecad.metrics import Evaluator
    from threecad.pages.gallery import write_gallery
    from threecad.procedural import write_sample
    from threecad.statistics import DefectStatistics, stats
    from threecad.verification import verify


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'threecad' has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# From here on the literal datasets.load_dataset("3cad") works; datasets is not imported for it.
install_hook()
