"""Draw docs/images/sample_contact_sheet.png: every category of the sample, good and defective.

python tools/draw_contact_sheet.py [OUT.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from threecad.dataset.catalog import CATEGORIES
from threecad.procedural import render
from threecad.system import atomic

SIZE = 224
GAP = 8
CAPTION = 40
MARGIN = 152
GOOD = 2
INK, GREEN, OUTLINE = (30, 30, 30), (0, 120, 60), (255, 0, 190)
DEFAULT = Path(__file__).parent.parent / "docs" / "images" / "sample_contact_sheet.png"

# Images that show well at this size; the sample has fainter and smaller defects too.
PICKS: dict[str, tuple[tuple[str, int], ...]] = {
    "Aluminum_Camera_Cover": (
        ("scratche", 0),
        ("whitening", 2),
        ("watermark", 1),
        ("bright shadow", 3),
        ("overwashing", 4),
    ),
    "Aluminum_Ipad": (
        ("scratche", 20),
        ("bruise", 17),
        ("uneven", 9),
        ("scratche", 16),
        ("Multiple-defects", 16),
    ),
    "Aluminum_Middle_Frame": (
        ("bump", 9),
        ("abrasion", 3),
        ("discoloration", 6),
        ("scratche", 22),
        ("Multiple-defects", 9),
    ),
    "Aluminum_New_Ipad": (
        ("bump", 3),
        ("knife mark", 2),
        ("bruise", 2),
        ("scratche", 1),
        ("Multiple-defects", 1),
    ),
    "Aluminum_New_Middle_Frame": (
        ("ink", 11),
        ("bruise", 12),
        ("bump", 18),
        ("discoloration", 6),
        ("Multiple-defects", 4),
    ),
    "Aluminum_Pc": (
        ("dirt", 1),
        ("wear crack", 8),
        ("scrape", 4),
        ("fluff", 4),
        ("Multiple-defects", 3),
    ),
    "Copper_Stator": (
        ("wire damage", 3),
        ("wire damage", 21),
        ("wire damage", 12),
        ("wire damage", 7),
        ("wire damage", 14),
    ),
    "Iron_Stator": (
        ("fracture", 4),
        ("paint nodule", 3),
        ("outer warping", 2),
        ("inner warping", 9),
        ("Multiple-defects", 15),
    ),
}


def draw_sheet() -> Image.Image:
    columns = GOOD + max(map(len, PICKS.values()))
    sheet = Image.new(
        "RGB",
        (MARGIN + columns * (SIZE + GAP), GAP + len(CATEGORIES) * (SIZE + CAPTION)),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    font, bold = ImageFont.load_default(25), ImageFont.load_default(25)
    for row, category in enumerate(CATEGORIES):
        top = GAP + row * (SIZE + CAPTION)
        label = category.replace("_", "\n")
        place = (GAP, top + SIZE // 2)
        draw.multiline_text(place, label, INK, bold, anchor="lm", spacing=8)
        good: list[tuple[str | None, int]] = [(None, i) for i in range(GOOD)]
        for column, (defect_type, number) in enumerate([*good, *PICKS[category]]):
            left = MARGIN + column * (SIZE + GAP)
            image, mask = render(category, "test", defect_type, number, size=SIZE)
            image[outline(mask > 0)] = OUTLINE
            tile = Image.fromarray(image)
            sheet.paste(tile, (left + (SIZE - tile.width) // 2, top + (SIZE - tile.height) // 2))
            caption, colour = (defect_type, INK) if defect_type else ("good", GREEN)
            draw.text((left + SIZE // 2, top + SIZE + 4), caption, colour, font, anchor="mt")
    return sheet


def outline(area: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A line round every region, two pixels away from it."""
    inner = grown(grown(area))
    return grown(inner) & ~inner


def grown(area: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of `area` and those beside them."""
    padded = np.pad(area, 1)
    beside = padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return area | beside


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    with atomic.replacing(out) as temporary:
        # 256 colours, rare hues before frequent ones: a third of the bytes, no visible difference.
        sheet = draw_sheet().quantize(method=Image.Quantize.MAXCOVERAGE, kmeans=3)
        sheet.save(temporary, optimize=True)
    print(out)


if __name__ == "__main__":
    main()
