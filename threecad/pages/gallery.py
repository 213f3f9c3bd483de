"""From an index to one HTML page that loads nothing from elsewhere, written as a stream.

The page begins with what is small (names, sizes, regions, scores) and the program that filters and
sorts it. Behind follow thumbnails, outlines and anomaly maps in blocks of consecutive images, as
JSON that the browser reads only when a page of the gallery shows them. Names of files are data, not
HTML: the program writes them as text, and a content security policy lets no other program run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from threecad.dataset.samples import GOOD
from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.predictions import PredictionFolder
from threecad.pages.figures import heatmap, scale_of_good
from threecad.pages.rendering import render_template
from threecad.pages.thumbnails import HeatMaker, OutlineMaker, ThumbnailMaker
from threecad.system import atomic, parallel
from threecad.system.caching import FileCache, remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from threecad.dataset.samples import Index, Sample
    from threecad.images.masks import MaskRule

__all__ = ["write_gallery"]

BLOCK = 60
"""Images whose pictures are read together."""

_VERSION = 1
_SCALE_IMAGES = 200
_COLOUR_STOPS = 17
_SPLITS = ("train", "val", "test")


def write_gallery(
    index: Index,
    path: str | os.PathLike[str],
    *,
    predictions: str | os.PathLike[str] | None = None,
    scale: tuple[float, float] | None = None,
    thumbnail: int = 160,
    mask_rule: MaskRule | None = None,
    title: str | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Path:
    """Write every image of an index, with mask outlines, as one self-contained HTML page.

    Thumbnails and outlines are kept in ``ROOT/.threecad`` and used again while the files are
    unchanged. What cannot be read is shown as such and does not stop the others.

    Args:
        index: The samples.
        path: The HTML file.
        predictions: Also show scores and anomaly maps of this predictions folder.
        scale: Anomaly values at the lower and upper end of the colours, for all images; from the
            median of good images to twice their highest value when ``None``.
        thumbnail: Longer side of a thumbnail, pixels.
        mask_rule: Decode all masks by this rule (see ``threecad.decode_mask``).
        title: Heading of the page; the name of the root when ``None``.
        workers: Worker processes; see ``threecad.system.parallel.map``.
        progress: Whether to show progress bars on stderr.

    Returns:
        ``path``.

    Raises:
        UsageError: If there is no sample, or a number is out of range.
        EvaluationError: If the predictions are none, or none of them is about these samples.
    """
    path = Path(path)
    if not len(index):
        raise UsageError(f"{index.root} has no image to show under these conditions.")
    if not 16 <= thumbnail <= 1024:
        raise UsageError(f"Thumbnails of {thumbnail} pixels are not sensible. Expected 16 to 1024.")
    folder = None if predictions is None else PredictionFolder(predictions)
    if folder is not None:
        if not any(s.id in folder or s.id in (folder.scores or ()) for s in index):
            raise EvaluationError(
                f"{predictions} has predictions about none of the {len(index):,} images to show. "
                "Check that it was made on this tree, and the categories and splits asked for."
            )
        scale = scale or _choose_scale(index, folder)
        if not scale[0] < scale[1]:
            raise UsageError(f"The scale goes from {scale[0]} to {scale[1]}; expected low, high.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent) as blocks:
        data = _collect(index, folder, scale, thumbnail, mask_rule, workers, progress, blocks)
        addresses = _addresses(index, path.parent)
        page = _render(title or index.root.resolve().name, {**data, **addresses}, scale)
        before, after = page.split("<!-- blocks -->\n")
        with atomic.open_replacing(path) as file:
            file.write(before.encode())
            blocks.seek(0)
            while content := blocks.read(1 << 20):
                file.write(content)
            file.write(after.encode())
    return path


def _choose_scale(index: Index, predictions: PredictionFolder) -> tuple[float, float]:
    """Return one scale for all maps, from up to 200 good images with one."""
    mapped = [sample for sample in index if sample.id in predictions]
    good = [sample for sample in mapped if not sample.label] or mapped
    steps = np.linspace(0, len(good) - 1, min(len(good), _SCALE_IMAGES)).round().astype(int)
    chosen = [good[k].id for k in steps]
    maps = _Usable(predictions, chosen)
    return scale_of_good(maps) if any(True for _ in maps) else (0.0, 1.0)


class _Usable:
    """The maps of some samples that can be read and are finite, read anew for every pass."""

    def __init__(self, predictions: PredictionFolder, ids: Sequence[str]) -> None:
        self.predictions, self.ids = predictions, ids

    def __iter__(self) -> Iterator[NDArray[np.floating[Any]]]:
        for sample_id in self.ids:
            with suppress(EvaluationError):
                values = self.predictions[sample_id]
                if np.isfinite(values).all():
                    yield values


def _collect(
    index: Index,
    predictions: PredictionFolder | None,
    scale: tuple[float, float] | None,
    thumbnail: int,
    mask_rule: MaskRule | None,
    workers: int | None,
    progress: bool,
    blocks: IO[bytes],
) -> dict[str, Any]:
    """Write the pictures into ``blocks``; return the columns of the index."""
    samples = index.samples
    columns = _columns(samples)
    columns["problem"] = problems = [""] * len(samples)
    name = f"outlines-{mask_rule}" if mask_rule else "outlines"
    outlines = remembered(
        FileCache(index.root, name, version=_VERSION),
        {sample.mask: sample.mask for sample in samples if sample.mask is not None},
        OutlineMaker(mask_rule),
        workers=workers,
        description="masks" if progress else None,
    )
    made = _remembered_stream(
        FileCache(index.root, f"thumbnails-{thumbnail}", version=_VERSION),
        [sample.image for sample in samples],
        ThumbnailMaker(thumbnail),
        workers=workers,
        description="thumbnails" if progress else None,
    )
    with _Blocks("thumbnails", blocks) as pictures, _Blocks("outlines", blocks) as paths:
        for place, (sample, record) in enumerate(zip(samples, made, strict=True)):
            pictures.add(record["picture"])
            columns["width"].append(record["width"])
            columns["height"].append(record["height"])
            mask = outlines[sample.mask] if sample.mask is not None else _NO_MASK
            problems[place] = _problem(sample, record, mask)
            fits = (mask["width"], mask["height"]) == (record["width"], record["height"])
            columns["regions"].append(mask["regions"] if fits else [])
            paths.add(mask["outline"] if fits else "")
    columns["score"] = None
    if predictions is not None and scale is not None:
        columns["score"] = scores = []
        heats = parallel.map(
            HeatMaker(*scale, step=predictions.scale, offset=predictions.offset),
            [predictions.maps.get(sample.id) for sample in samples],
            workers=workers,
            description="anomaly maps" if progress else None,
        )
        with _Blocks("heat", blocks) as pictures:
            for place, (sample, record) in enumerate(zip(samples, heats, strict=True)):
                pictures.add(record["picture"])
                scores.append(_score(sample.id, predictions, record["highest"]))
                problems[place] = " ".join(filter(None, (problems[place], record["problem"])))
    return columns


_NO_MASK: dict[str, Any] = {"width": 0, "height": 0, "regions": [], "outline": "", "problem": ""}


def _columns(samples: Sequence[Sample]) -> dict[str, Any]:
    """Return what is known without opening a file."""
    categories = sorted({sample.category for sample in samples})
    types = sorted(
        {sample.defect_type for sample in samples}, key=lambda name: (name != GOOD, name)
    )
    splits = [split for split in _SPLITS if any(sample.split == split for sample in samples)]
    place = [{name: k for k, name in enumerate(names)} for names in (categories, types, splits)]
    return {
        "block": BLOCK,
        "categories": categories,
        "types": types,
        "splits": splits,
        "id": [sample.id for sample in samples],
        "category": [place[0][sample.category] for sample in samples],
        "type": [place[1][sample.defect_type] for sample in samples],
        "split": [place[2][sample.split] for sample in samples],
        "label": [sample.label for sample in samples],
        "width": [],
        "height": [],
        "regions": [],
    }


def _problem(sample: Sample, image: dict[str, Any], mask: dict[str, Any]) -> str:
    found = [image["problem"], mask["problem"]]
    if sample.label and sample.mask is None:
        found.append("The image is defective but has no mask.")
    elif mask["width"] and image["width"]:
        sizes = [f"{record['width']} × {record['height']}" for record in (mask, image)]
        if sizes[0] != sizes[1]:
            found.append(f"The mask has {sizes[0]} pixels, the image {sizes[1]}.")
    return " ".join(filter(None, found))


def _score(sample_id: str, predictions: PredictionFolder, highest: float | None) -> float | None:
    """Return the score of the table, or without one the highest value of the map."""
    table = predictions.scores
    score = highest if table is None else table.get(sample_id)
    return score if score is not None and np.isfinite(score) else None


def _addresses(index: Index, folder: Path) -> dict[str, list[str]]:
    """Return the files as addresses relative to the page's folder."""
    folder = folder.resolve()
    return {
        "image": [_address(sample.image, folder) for sample in index],
        "mask": [_address(sample.mask, folder) if sample.mask else "" for sample in index],
    }


def _address(file: Path, folder: Path) -> str:
    file = Path(os.path.abspath(file))  # noqa: PTH100  (resolve() would follow links of the tree)
    try:
        relative = Path(os.path.relpath(file, folder))
    except ValueError:  # another drive
        return file.as_uri()
    return quote(relative.as_posix())


def _remembered_stream(
    cache: FileCache,
    paths: Sequence[Path],
    function: Callable[[Path], dict[str, Any]],
    *,
    workers: int | None,
    description: str | None,
) -> Iterator[dict[str, Any]]:
    """Yield the record of each file in order, with a bounded number of them in memory."""
    known = cache.known(paths)
    missing = [path for path in paths if path not in known]
    made = parallel.map(
        function, missing, workers=workers, description=description if missing else None
    )
    for first in range(0, len(paths), 512):
        chunk = paths[first : first + 512]
        records = cache.get_many(path for path in chunk if path in known)
        fresh: dict[Path, Any] = {}
        for path in chunk:
            if path not in known:
                records[path] = fresh[path] = next(made)
            elif path not in records:  # changed or forgotten just now
                records[path] = function(path)
        cache.put_many(fresh)
        yield from (records[path] for path in chunk)


class _Blocks:
    """Writes texts about consecutive images as blocks of JSON that the page finds by name."""

    def __init__(self, kind: str, file: IO[bytes]) -> None:
        self.kind, self.file = kind, file
        self.texts: list[str] = []
        self.number = 0

    def add(self, text: str) -> None:
        """Add the text about the next image."""
        self.texts.append(text)
        if len(self.texts) == BLOCK:
            self._write()

    def __enter__(self) -> _Blocks:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.texts:
            self._write()

    def _write(self) -> None:
        element = (
            f'<script type="application/json" id="{self.kind}-{self.number}">'
            f"{_script_json(self.texts)}</script>\n"
        )
        self.file.write(element.encode())
        self.texts, self.number = [], self.number + 1


def _render(title: str, data: dict[str, Any], scale: tuple[float, float] | None) -> str:
    templates = files("threecad.pages").joinpath("templates")
    style = templates.joinpath("gallery.css").read_text(encoding="utf-8")
    script = templates.joinpath("gallery.js").read_text(encoding="utf-8")
    colours = heatmap(np.linspace(0, 1, _COLOUR_STOPS)[None], vmin=0, vmax=1)[0]
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "img-src data: file: 'self'; base-uri 'none'; form-action 'none'"
    )
    stops = ["#" + "".join(f"{int(value):02x}" for value in colour) for colour in colours]
    return render_template(
        "gallery.html",
        title=title,
        count=len(data["id"]),
        scale=scale,
        policy=policy,
        style=style,
        script=script,
        index=_script_json({**data, "colours": stops}),
        colours={
            name: " ".join(f"{value / 255:.4f}" for value in colours[:, channel])
            for channel, name in enumerate(("red", "green", "blue"))
        },
    )


def _script_json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
