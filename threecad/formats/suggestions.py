"""A detector's regions as annotations to start from, in the files of four annotation tools.

    FOLDER/images/<name>           the images, their ids with ``__`` for slashes
    FOLDER/annotations.json        coco
    FOLDER/images/<name>.json      labelme
    FOLDER/tasks.json              label-studio, with labeling_config.xml
    FOLDER/annotations.xml         cvat, with labels.json

Corrected there and saved or exported, the same folder is read by ``convert``: what a person left
standing is then a mask.
"""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from threecad.images.files import png_bytes, read_header, read_image
from threecad.system import atomic

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from threecad.formats.annotations.drawings import Ring

__all__ = ["TOOLS", "Suggestion", "SuggestionWriter", "Tool"]

Tool = Literal["coco", "labelme", "label-studio", "cvat"]
TOOLS: tuple[Tool, ...] = get_args(Tool)

LABEL = "defect"
"""What suggested shapes are called: a person who knows the type renames them."""

SCORE_DIGITS = 6


@dataclass(frozen=True)
class Suggestion:
    """One outline.

    Attributes:
        ring: x and y of its corners in turn, in pixels of the image.
        score: How anomalous it is.
    """

    ring: Ring
    score: float

    @property
    def corners(self) -> list[tuple[float, float]]:
        """The corners, (x, y)."""
        return list(zip(self.ring[::2], self.ring[1::2], strict=True))

    @property
    def said(self) -> str:
        """The score as text."""
        return f"{self.score:.{SCORE_DIGITS}g}"


@dataclass(frozen=True)
class _Image:
    name: str
    size: tuple[int, int]
    shapes: tuple[Suggestion, ...]


class SuggestionWriter:
    """Collects images with their outlines; ``write`` writes what the tool reads.

    Args:
        folder: Where to write; made if missing.
        tool: For which annotation tool.
    """

    def __init__(self, folder: str | os.PathLike[str], tool: Tool) -> None:
        self.folder, self.tool = Path(folder), tool
        self._images: list[_Image] = []
        self._stems: set[str] = set()

    def add(self, sample_id: str, image: Path, shapes: Sequence[Suggestion]) -> None:
        """Copy an image and keep its outlines.

        One that viewers would turn (EXIF) is written as a PNG of the pixels as they are stored,
        which the outlines are for.

        Raises:
            ImageError: If it is no image.
        """
        header = read_header(image)
        stem = self._stem(sample_id)
        suffix = image.suffix.lower() if header.orientation == 1 else ".png"
        target = self.folder / "images" / f"{stem}{suffix}"
        with atomic.replacing(target, durable=False) as temporary:
            if header.orientation == 1:
                shutil.copyfile(image, temporary)
            else:
                temporary.write_bytes(png_bytes(read_image(image)))
        size = header.height, header.width
        self._images.append(_Image(target.name, size, tuple(shapes)))

    def _stem(self, sample_id: str) -> str:
        """Return a name for an image that no other has, upper and lower case alike."""
        plain = sample_id.replace("/", "__")
        names = (plain if number == 1 else f"{plain}-{number}" for number in count(1))
        stem = next(name for name in names if name.casefold() not in self._stems)
        self._stems.add(stem.casefold())
        return stem

    def write(self) -> None:
        """Write the annotations of all images."""
        write = {
            "coco": _write_coco,
            "labelme": _write_labelme,
            "label-studio": _write_label_studio,
            "cvat": _write_cvat,
        }[self.tool]
        self.folder.mkdir(parents=True, exist_ok=True)
        write(self._images, self.folder)


def _write_coco(images: Sequence[_Image], folder: Path) -> None:
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        for shape in image.shapes:
            (left, top), (width, height), area = _measure(shape)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": [list(shape.ring)],
                    "area": area,
                    "bbox": [left, top, width, height],
                    "iscrowd": 0,
                    "score": shape.score,
                    "attributes": {"score": shape.score},
                }
            )
    listed = [
        {"id": number, "file_name": image.name, "height": image.size[0], "width": image.size[1]}
        for number, image in enumerate(images, start=1)
    ]
    categories = [{"id": 1, "name": LABEL, "supercategory": ""}]
    atomic.write_json(
        folder / "annotations.json",
        {"images": listed, "annotations": annotations, "categories": categories},
    )


def _write_labelme(images: Sequence[_Image], folder: Path) -> None:
    for image in images:
        shapes: list[dict[str, Any]] = [
            {
                "label": LABEL,
                "points": [list(corner) for corner in shape.corners],
                "group_id": None,
                "description": f"score {shape.said}",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
                "score": shape.score,
            }
            for shape in image.shapes
        ]
        document: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": image.name,
            "imageData": None,
            "imageHeight": image.size[0],
            "imageWidth": image.size[1],
        }
        atomic.write_json((folder / "images" / image.name).with_suffix(".json"), document)


_LABELING_CONFIG = f"""<View>
  <Image name="image" value="$image" zoom="true"/>
  <PolygonLabels name="label" toName="image">
    <Label value="{LABEL}"/>
  </PolygonLabels>
</View>
"""


def _write_label_studio(images: Sequence[_Image], folder: Path) -> None:
    tasks = []
    for image in images:
        height, width = image.size
        result = [
            {
                "id": f"region-{number}",
                "from_name": "label",
                "to_name": "image",
                "type": "polygonlabels",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": shape.score,
                "value": {
                    "points": [[100 * x / width, 100 * y / height] for x, y in shape.corners],
                    "closed": True,
                    "polygonlabels": [LABEL],
                },
            }
            for number, shape in enumerate(image.shapes, start=1)
        ]
        prediction: dict[str, Any] = {"model_version": "cfrg", "result": result}
        if image.shapes:
            prediction["score"] = max(shape.score for shape in image.shapes)
        address = f"/data/local-files/?d=images/{image.name}"
        tasks.append({"data": {"image": address}, "predictions": [prediction]})
    atomic.write_json(folder / "tasks.json", tasks)
    atomic.write_text(folder / "labeling_config.xml", _LABELING_CONFIG)


def _write_cvat(images: Sequence[_Image], folder: Path) -> None:
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    for number, image in enumerate(images):
        height, width = map(str, image.size)
        named = {"id": str(number), "name": image.name, "width": width, "height": height}
        element = ET.SubElement(root, "image", named)
        for shape in image.shapes:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in shape.corners)
            drawn = {"label": LABEL, "source": "auto", "occluded": "0", "points": points}
            polygon = ET.SubElement(element, "polygon", {**drawn, "z_order": "0"})
            ET.SubElement(polygon, "attribute", name="score").text = shape.said
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    atomic.write_text(
        folder / "annotations.xml", f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'
    )
    score = {"name": "score", "input_type": "text", "mutable": False, "values": [""]}
    label = {"name": LABEL, "type": "any", "attributes": [{**score, "default_value": ""}]}
    atomic.write_json(folder / "labels.json", [label])


def _measure(shape: Suggestion) -> tuple[tuple[float, float], tuple[float, float], float]:
    """Return left and top, width and height, and the area of an outline."""
    xs, ys = shape.ring[::2], shape.ring[1::2]
    pairs = zip(shape.corners, shape.corners[1:] + shape.corners[:1], strict=True)
    area = abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs)) / 2
    return (min(xs), min(ys)), (max(xs) - min(xs), max(ys) - min(ys)), area
