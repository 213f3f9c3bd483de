"""The columns of 3CAD as a Hugging Face dataset, the same however it is loaded or published."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from threecad.dataset.samples import GOOD
from threecad.images.regions import enclosing_rectangle, regions

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["LABELS", "arrow_schema", "class_names", "describe_columns", "describe_regions"]

LABELS = ("normal", "anomalous")
"""Names of the two values of the column ``label``."""

_ARROW = {"string": "string", "int32": "int32", "int64": "int64", "float64": "double"}


def class_names(defect_types: Iterable[str]) -> list[str]:
    """Return the names of the column ``defect_type``: ``good`` and the sorted folder names."""
    return [GOOD, *sorted(set(defect_types) - {GOOD})]


def describe_columns(
    categories: Iterable[str], defect_types: Iterable[str], *, with_stats: bool = False
) -> dict[str, dict[str, Any]]:
    """Return the columns in the JSON form of ``datasets.Features``.

    Lists are called ``Sequence``: every version of ``datasets`` from 3.6 reads that, while ``List``
    is unknown to the older ones.

    Args:
        categories: Names of the categories, in any order.
        defect_types: Names of the defect folders, in any order, with or without ``good``.
        with_stats: Add the columns of ``describe_regions``.
    """
    image = {"_type": "Image"}
    kinds = {"names": class_names(defect_types), "_type": "ClassLabel"}
    columns: dict[str, dict[str, Any]] = {
        "image_id": _value("string"),
        "image": image,
        "mask": image,
        "label": {"names": list(LABELS), "_type": "ClassLabel"},
        "category": {"names": sorted(set(categories)), "_type": "ClassLabel"},
        "defect_type": kinds,
        "defect_types": _list(kinds),
    }
    if with_stats:
        columns |= {
            "num_regions": _value("int32"),
            "area_ratio": _value("float64"),
            "aspect_ratio": _value("float64"),
            "region_areas": _list(_value("int64")),
            "region_boxes": _list(_list(_value("int32"))),
        }
    return columns


def describe_regions(mask: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Return the region statistics of one image.

    Args:
        mask: ``(H, W)`` bool; ``None`` for an image without a mask.

    Returns:
        ``num_regions`` (8-connected), ``area_ratio`` of all defect pixels over the image's,
        ``aspect_ratio`` of the smallest rectangle round all defect pixels (``None`` without any),
        ``region_areas`` in pixels and ``region_boxes`` as ``[x, y, width, height]``. All ``None``
        or empty without a mask.
    """
    if mask is None:
        return {
            "num_regions": None,
            "area_ratio": None,
            "aspect_ratio": None,
            "region_areas": [],
            "region_boxes": [],
        }
    found = regions(mask)
    rectangle = enclosing_rectangle(mask)
    return {
        "num_regions": len(found),
        "area_ratio": sum(region.area for region in found) / mask.size,
        "aspect_ratio": rectangle.aspect_ratio if rectangle is not None else None,
        "region_areas": [region.area for region in found],
        "region_boxes": [list(region.bbox) for region in found],
    }


def arrow_schema(columns: dict[str, dict[str, Any]]) -> pa.Schema:
    """Return the Arrow schema of a Parquet file with these columns, features and all."""
    import pyarrow as pa

    metadata = {"huggingface": json.dumps({"info": {"features": columns}})}
    fields = [pa.field(name, _arrow_type(column)) for name, column in columns.items()]
    return pa.schema(fields, metadata=metadata)


def _value(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "_type": "Value"}


def _list(feature: dict[str, Any]) -> dict[str, Any]:
    return {"feature": feature, "_type": "Sequence"}


def _arrow_type(column: dict[str, Any]) -> pa.DataType:
    import pyarrow as pa

    kind = column["_type"]
    if kind == "Image":
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if kind == "ClassLabel":
        return pa.int64()
    if kind == "Sequence":
        return pa.list_(_arrow_type(column["feature"]))
    return pa.type_for_alias(_ARROW[column["dtype"]])
