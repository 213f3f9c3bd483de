"""Image sizes and defect areas of two categories, as others measured them in the archive.

ACC: SsONg6993/industrial-visual-anomaly-detection, ``crop_loss_audit.csv@1262464f``, 1,077 masks.
ANI: VanNam-2501/SurfaceDefectSeg, ``threecad_ani_dataset_audit.ipynb@d91f6fd4``, 3,937 masks; of
its sizes only ranges and quartiles are published, and the ones here keep to these. Of the other
categories nothing of the kind is published, but that the archive has 245 sizes in all (the first
repository, ``README@1262464f``).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

from threecad.dataset.catalog import CATEGORIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from threecad.procedural.fields import Stream

Size = tuple[int, int]
"""Width and height in pixels of the archive."""

Quantiles = tuple[float, float, float, float, float]
"""The least, the three quartiles and the most."""

LARGEST = 1024
"""The longest side in the archive, pixels."""

SQUARE: Size = (LARGEST, LARGEST)

ALL_SIZES = 245
"""Number of image sizes in the archive."""

AREAS: Mapping[str, Mapping[str, Quantiles]] = {
    "Aluminum_Camera_Cover": {
        "bright shadow": (0.035, 4.190, 9.874, 21.385, 49.289),
        "bruise": (0.005, 0.101, 0.160, 0.292, 1.858),
        "bump": (0.013, 0.021, 0.027, 0.038, 0.118),
        "deformation": (0.522, 2.038, 3.146, 6.278, 15.632),
        "discoloration": (0.229, 3.431, 8.121, 13.023, 37.003),
        "overwashing": (0.160, 8.338, 20.625, 31.035, 46.560),
        "scratche": (0.030, 0.502, 0.865, 1.357, 4.110),
        "uneven": (0.019, 0.344, 1.738, 2.938, 7.108),
        "watermark": (0.119, 0.541, 0.867, 1.335, 6.863),
        "whitening": (0.070, 0.931, 6.167, 21.705, 41.870),
    },
    "Aluminum_New_Ipad": {
        "Multiple-defects": (0.0096, 0.0403, 0.0774, 0.1841, 1.4846),
        "bruise": (0.0231, 0.0564, 0.1278, 0.2727, 1.0275),
        "bump": (0.0057, 0.0678, 0.1349, 0.2875, 30.3253),
        "knife mark": (1.0961, 5.8216, 13.6208, 15.8483, 53.3201),
        "scratche": (0.0054, 0.0890, 0.1501, 0.2758, 2.4611),
    },
}
"""Category → defect folder → defect pixels of an image in percent of it."""

SIZES: Mapping[str, Mapping[str, Mapping[Size, int]]] = {
    "Aluminum_Camera_Cover": {
        "bright shadow": {SQUARE: 58},
        "bruise": {
            SQUARE: 106, (720, 288): 44, (950, 800): 38, (952, 576): 10, (768, 288): 8,
            (688, 288): 5, (800, 288): 5, (600, 576): 4, (448, 288): 3, (624, 576): 1,
            (400, 288): 1,
        },
        "bump": {SQUARE: 14, (768, 288): 1},
        "deformation": {SQUARE: 35, (768, 288): 3, (952, 576): 2},
        "discoloration": {SQUARE: 54},
        "overwashing": {
            (600, 576): 37, (952, 576): 13, (800, 288): 7, (448, 288): 5, (720, 288): 5,
            (288, 288): 4, (768, 288): 2, (688, 288): 2,
        },
        "scratche": {(952, 576): 227, SQUARE: 103},
        "uneven": {SQUARE: 80},
        "watermark": {SQUARE: 92},
        "whitening": {
            SQUARE: 55, (950, 800): 23, (688, 288): 10, (400, 288): 6, (800, 288): 6,
            (720, 288): 4, (600, 576): 3, (952, 576): 1,
        },
    },
    "Aluminum_New_Ipad": {
        folder: {SQUARE: 16, (376, 1024): 1, (700, 1024): 1, (1024, 420): 1, (1024, 720): 1}
        for folder in ("good", *AREAS["Aluminum_New_Ipad"])
    },
}  # fmt: skip
"""Category → folder → size → number of images."""

SIZED_TYPES = {("Aluminum_Camera_Cover", name) for name in SIZES["Aluminum_Camera_Cover"]}
"""Category and type of the images whose sizes are published one by one."""


def draw_size(stream: Stream, sizes: Mapping[Size, int]) -> Size:
    """Return one of the sizes, each as often as it occurs."""
    left = stream.integer(0, sum(sizes.values()))
    for size, number in sizes.items():
        left -= number
        if left < 0:
            return size
    raise AssertionError("a number below their sum is used up by them")


def draw_area(stream: Stream, quantiles: Quantiles) -> float:
    """Return a share of the image whose distribution has these quantiles.

    Between them it is even. Above the third the tail is that of a Pareto distribution of exponent
    two: the most is that of one image, and few come near it.
    """
    position = 4.0 * stream.real()
    quarter = int(position)
    part = position - quarter
    low, high = quantiles[quarter], quantiles[quarter + 1]
    if quarter < 3:
        return (low + part * (high - low)) / 100.0
    ratio = low / high
    return low / math.sqrt(1.0 - part * (1.0 - ratio * ratio)) / 100.0


@lru_cache(maxsize=1)
def stand_in_sizes() -> dict[str, Mapping[Size, int]]:
    """Return sizes for a stand-in of the whole archive: as many, all 245 of them, as it has.

    Those of ACC are known, and the stators have one. The others are spread over the published
    ranges of their category; four of five images have the largest.
    """
    covers = SIZES["Aluminum_Camera_Cover"]
    known = {size for sizes in covers.values() for size in sizes}
    chosen: dict[str, list[Size]] = {"Aluminum_Camera_Cover": sorted(known, reverse=True)}
    varied = [c for c in CATEGORIES.values() if c.name not in chosen and c.heights[0] < LARGEST]
    taken = set(map(_at_64, known))
    for place, category in enumerate(varied):
        widths = category.expected("widths")
        chosen[category.name] = sizes = [(widths[1], category.heights[1])]
        taken.add(_at_64(sizes[0]))
        goal = (ALL_SIZES - len(known)) * (place + 1) // len(varied) + len(known)
        for size in _grid(widths, category.heights):
            if len(taken) == goal:
                break
            if _at_64(size) not in taken:
                taken.add(_at_64(size))
                sizes.append(size)
    return {name: _often_the_largest(chosen.get(name, [SQUARE])) for name in CATEGORIES}


def _at_64(size: Size) -> Size:
    """The size when the largest image has 64 pixels: sizes must differ even then."""
    return size[0] // 16, size[1] // 16


def _often_the_largest(sizes: Sequence[Size]) -> dict[Size, int]:
    return {size: 1 if number else 4 * len(sizes) for number, size in enumerate(sizes)}


def _grid(widths: tuple[int, int], heights: tuple[int, int]) -> Iterator[Size]:
    """Pairs from both ranges, in steps of 16 pixels, the corners first and then far apart."""
    across = [widths[0], *range(widths[0] // 16 * 16 + 16, widths[1] + 1, 16)]
    down = [heights[0], *range(heights[0] // 16 * 16 + 16, heights[1] + 1, 16)]
    yield across[0], heights[1]
    yield widths[1], down[0]
    for step in range(len(across) * len(down)):
        yield across[5 * step % len(across)], down[(7 * step + step // len(down)) % len(down)]
