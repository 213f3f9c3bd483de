"""threecad: download, check, describe, convert and evaluate 3CAD, industrial surface defects."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from threecad.hub import install_hook

__version__ = "0.1.0"

# Public name -> the module that defines it. Nothing is imported before it is asked for, so that
# `import threecad` loads neither torch nor datasets.
_EXPORTS: dict[str, str] = {
    "Audit": "threecad.auditing",
    "CATEGORIES": "threecad.catalog",
    "Category": "threecad.catalog",
    "DecodedMask": "threecad.masks",
    "DefectStatistics": "threecad.statistics",
    "Errata": "threecad.errata",
    "Evaluator": "threecad.metrics",
    "Finding": "threecad.findings",
    "Index": "threecad.indexing",
    "PredictionWriter": "threecad.predictions",
    "Region": "threecad.geometry",
    "Result": "threecad.metrics",
    "Sample": "threecad.indexing",
    "SplitFile": "threecad.split_files",
    "ThreeCAD": "threecad.dataset",
    "ThreecadError": "threecad.errors",
    "audit": "threecad.auditing",
    "convert": "threecad.formats",
    "decode_mask": "threecad.masks",
    "diagnose": "threecad.diagnosis",
    "download": "threecad.fetching",
    "enclosing_rectangle": "threecad.geometry",
    "evaluate": "threecad.evaluation",
    "label_regions": "threecad.geometry",
    "load_dataset": "threecad.hub",
    "mask_to_polygons": "threecad.encodings",
    "mask_to_rle": "threecad.encodings",
    "polygons_to_mask": "threecad.encodings",
    "read_errata": "threecad.errata",
    "read_mask": "threecad.masks",
    "read_split": "threecad.split_files",
    "regions": "threecad.geometry",
    "resize_mask": "threecad.resizing",
    "rle_to_mask": "threecad.encodings",
    "scan": "threecad.indexing",
    "split": "threecad.splitting",
    "stats": "threecad.statistics",
    "verify": "threecad.verification",
    "write_errata": "threecad.auditing.corrections",
    "write_gallery": "threecad.gallery",
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
    from threecad.catalog import CATEGORIES, Category
    from threecad.dataset import ThreeCAD
    from threecad.diagnosis import diagnose
    from threecad.encodings import mask_to_polygons, mask_to_rle, polygons_to_mask, rle_to_mask
    from threecad.errata import Errata, read_errata
    from threecad.errors import ThreecadError
    from threecad.evaluation import evaluate
    from threecad.fetching import download
    from threecad.findings import Finding
    from threecad.formats import convert
    from threecad.gallery import write_gallery
    from threecad.geometry import Region, enclosing_rectangle, label_regions, regions
    from threecad.hub import load_dataset
    from threecad.indexing import Index, Sample, scan
    from threecad.masks import DecodedMask, decode_mask, read_mask
    from threecad.metrics import Evaluator
    from threecad.metrics.results import Result
    from threecad.predictions import PredictionWriter
    from threecad.procedural import write_sample
    from threecad.resizing import resize_mask
    from threecad.split_files import SplitFile, read_split
    from threecad.splitting import split
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
