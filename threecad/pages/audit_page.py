"""An audit as one self-contained HTML page, with the pictures side by side."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from threecad.auditing.meanings import MEANINGS
from threecad.errors import ThreecadError
from threecad.images.files import read_image
from threecad.images.masks import read_mask
from threecad.pages.figures import outline
from threecad.pages.rendering import render_template
from threecad.system import atomic
from threecad.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from threecad.auditing.examination import Audit, Duplicate
    from threecad.dataset.samples import Sample
    from threecad.images.masks import MaskRule

__all__ = ["render_page", "write_page"]

_WIDTH = 320
_ROW = 6
_MASK_CODES = {
    "mask-empty": "Masks without a defect pixel",
    "mask-full": "Masks that are all defect",
    "mask-ambiguous": "Masks whose values are ambiguous",
    "mask-area": "Masks of unusual area",
    "mask-specks": "Masks with specks",
    "mask-border": "Defects that reach the border",
}


@dataclass(frozen=True)
class _Picture:
    """One thumbnail with what is written under it."""

    id: str
    source: str  # data URI; empty if the image cannot be read
    label: str


@dataclass(frozen=True)
class _Section:
    """Rows of pictures that were found for one reason."""

    title: str
    advice: str
    severity: str
    total: int
    rows: list[tuple[str, list[_Picture]]]


def write_page(audit: Audit, path: str | os.PathLike[str], *, shown: int = 50) -> None:
    """Write the page of ``render_page`` to ``path``."""
    atomic.write_text(path, render_page(audit, shown=shown))


def render_page(audit: Audit, *, shown: int = 50) -> str:
    """Return the findings of an audit that can be looked at as one HTML page.

    Masks are drawn as outlines. The page needs nothing from elsewhere.

    Args:
        audit: What to show.
        shown: At most so many groups or masks for each reason; the total is stated.
    """
    return render_template(
        "audit.html",
        report=audit.report,
        numbers=audit.report.to_dict()["summary"],
        sections=[*_duplicate_sections(audit, shown), *_mask_sections(audit, shown)],
        version=__version__,
    )


def _duplicate_sections(audit: Audit, shown: int) -> Iterator[_Section]:
    for near, duplicates in ((False, audit.duplicates), (True, audit.near_duplicates)):
        for name, meaning in MEANINGS.items():
            if members := [found for found in duplicates if name in found.meanings]:
                yield _Section(
                    f"{'Looks the same' if near else 'The same pixels'}, {meaning.title}",
                    meaning.near_advice if near else meaning.advice,
                    meaning.near if near else meaning.exact,
                    len(members),
                    [_row(audit, found) for found in members[:shown]],
                )


def _row(audit: Audit, found: Duplicate) -> tuple[str, list[_Picture]]:
    text = "equal pixels"
    if found.pairs:
        text = f"{found.pairs[0].distance} bits apart"
        if len(found.ids) > 2:
            text = f"{len(found.ids)} images, the closest {text}"
    if len(found.ids) > _ROW:
        text += f"; {_ROW} of {len(found.ids)} are shown"
    return text, _pictures(audit, found.ids[:_ROW])


def _mask_sections(audit: Audit, shown: int) -> Iterator[_Section]:
    for code, title in _MASK_CODES.items():
        found = [f for f in audit.report.sorted() if f.code == code and f.id is not None]
        if found:
            yield _Section(
                title,
                found[0].advice,
                found[0].severity,
                len(found),
                [(f.message, _pictures(audit, [str(f.id)])) for f in found[:shown]],
            )


def _pictures(audit: Audit, ids: Sequence[str]) -> list[_Picture]:
    return [_picture(audit.index[sample_id], audit.mask_rule) for sample_id in ids]


def _picture(sample: Sample, rule: MaskRule | None) -> _Picture:
    label = f"{sample.split} · {sample.defect_type}"
    try:
        pixels = read_image(sample.image)
        if sample.mask is not None:
            mask = read_mask(sample.mask, rule=rule)
            pixels = outline(pixels, mask) if mask.shape == pixels.shape[:2] else pixels
    except ThreecadError:
        return _Picture(sample.id, "", label)
    thumbnail = Image.fromarray(pixels)
    thumbnail.thumbnail((_WIDTH, _WIDTH))
    file = io.BytesIO()
    thumbnail.save(file, "JPEG", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return _Picture(sample.id, source, label)
