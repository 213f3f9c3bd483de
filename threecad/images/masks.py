"""Ground-truth masks: from a file to a boolean array.

How a file's values become defect or background is decided by the first rule that fits:

==============  ===================================================================================
rule            when, and what is defect
==============  ===================================================================================
``uniform``     one value: all of the image is defect if it is above 0, nothing if it is 0
``binary``      two values, one of them 0: the other one
``labels``      at most 32 values, all below 64, or at most 32 colours, not all grey: all but 0
``threshold``   anything else: from half of the value range on (128; 32768 for 16 bits); a JPEG file
                that stays below it, from half of its highest value on
==============  ===================================================================================

Values are a palette image's indices (its colours, where black has another index than 0), a colour
image's distinct RGB colours (black is 0), a grey image's own values and, where all of RGB is one
colour, the alpha channel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from threecad.errors import ImageError, MaskError, UsageError
from threecad.images.files import open_image

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray
    from PIL import Image


__all__ = ["DecodedMask", "MaskRule", "decode_mask", "read_mask"]

MaskRule = Literal["uniform", "binary", "labels", "threshold"]

MAX_CLASSES = 32
LABEL_LIMIT = 64


@dataclass(frozen=True)
class DecodedMask:
    """A mask file's content and how it was understood.

    Attributes:
        mask: ``(H, W)`` bool, true on defect pixels.
        rule: The rule that decided (see the module's table).
        findings: Codes of what is odd: ``mask-empty`` (no defect pixel), ``mask-full`` (nothing
            but), ``mask-ambiguous`` (the values do not say clearly what is defect).
        classes: For a label map, the raw value or ``(r, g, b)`` of each class present, ascending.
        labels: For a label map, ``(H, W)`` uint8: 0 for background, k for ``classes[k - 1]``.
        grey: Of an ambiguous mask under ``threshold``, the pixels that ``binary`` would add.
    """

    mask: NDArray[np.bool_]
    rule: MaskRule
    findings: tuple[str, ...] = ()
    classes: tuple[int | tuple[int, int, int], ...] = ()
    labels: NDArray[np.uint8] | None = None
    grey: int = 0


def read_mask(path: str | os.PathLike[str], *, rule: MaskRule | None = None) -> NDArray[np.bool_]:
    """Read a ground-truth mask as an ``(H, W)`` bool array, true on defect pixels.

    Args:
        path: An image file of any common format.
        rule: Use this rule instead of the first that fits (see ``decode_mask``).

    Raises:
        MaskError: If the file cannot be decoded, is too large, or does not suit ``rule``.
    """
    return decode_mask(path, rule=rule).mask


def decode_mask(
    path: str | os.PathLike[str], *, rule: MaskRule | None = None, content: bytes | None = None
) -> DecodedMask:
    """Read a ground-truth mask together with the rule used, oddities and classes.

    Args:
        path: An image file of any common format.
        rule: ``"binary"`` takes every value but 0 for defect, ``"labels"`` too and keeps the
            classes, ``"threshold"`` takes the upper half of the value range; ``None`` decides by
            the values (see the module's table).
        content: The bytes of the file, where ``path`` only says what to call it.

    Raises:
        MaskError: If the file cannot be decoded, has more than one frame or more than
            ``MAX_PIXELS`` of ``threecad.images.files``, or too many values for ``rule="labels"``.
        UsageError: If ``rule`` is none of these.
    """
    if rule is not None and rule not in ("binary", "labels", "threshold"):
        raise UsageError(f"Mask rule {rule!r} is unknown. Expected binary, labels or threshold.")
    try:
        image = open_image(path, content, one_frame=True)
        values, half, by_colour = _raw_values(image)
        lossy = image.format in ("JPEG", "MPO")
    except ImageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise MaskError(f"{path}: there is no such mask file.") from None
        raise MaskError(f"{path}: the mask cannot be decoded ({error.reason}).") from None
    except ValueError as error:
        raise MaskError(f"{path}: the mask cannot be decoded ({error}).") from None
    try:
        if lossy and rule is None:
            decoded = _decide_lossy(values, half)
        else:
            decoded = _decide(values, half, rule)
    except MaskError as error:
        raise MaskError(f"{path}: {error}") from None
    # A palette that paints the background another colour than black, or only looks like one.
    odd = by_colour and (decoded.rule == "labels" or 2 * decoded.mask.sum() > decoded.mask.size)
    if odd and "mask-ambiguous" not in decoded.findings:
        return _with_finding(decoded, "mask-ambiguous")
    return decoded


def _with_finding(decoded: DecodedMask, code: str) -> DecodedMask:
    return replace(decoded, findings=(*decoded.findings, code))


def _raw_values(image: Image.Image) -> tuple[NDArray[Any], int, bool]:
    """Return an image's raw values, half of their range, and whether a palette decides by colour.

    The values are ``(H, W)`` uint8 or uint16, or ``(H, W, 3)`` uint8 where colours differ from
    grey. A palette's indices are classes, unless black is painted by one other index than 0: what
    makes palettes of its own (GIF, pngquant) numbers colours as it likes.
    """
    mode = image.mode
    if mode == "P":
        if _black_is_numbered_otherwise(image):
            return _without_alpha(np.asarray(image.convert("RGB"))), 128, True
        return np.asarray(image), 128, False
    if mode in ("1", "L"):
        return np.asarray(image).view(np.uint8), 128, False
    if mode.startswith("I"):
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError("its values do not fit in 16 bits")
        return wide.astype(np.uint16), 32768, False
    if mode in ("LA", "La", "PA"):
        return _without_alpha(np.asarray(image)), 128, False
    if mode in ("RGB", "RGBA", "RGBX", "RGBa"):
        return _without_alpha(np.asarray(image)), 128, False
    if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return _without_alpha(np.asarray(image.convert("RGB"))), 128, False
    raise ValueError(f"images of mode {mode} are no masks")


def _black_is_numbered_otherwise(image: Image.Image) -> bool:
    """Return whether exactly one used index of a palette is black, and it is not 0."""
    palette = image.getpalette("RGB")
    if not palette:
        return False
    used = np.flatnonzero(np.bincount(np.asarray(image).ravel(), minlength=256))
    black = [index for index in used if palette[3 * index : 3 * index + 3] == [0, 0, 0]]
    return len(black) == 1 and black[0] != 0


def _without_alpha(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Reduce ``(H, W, 2..4)`` to colours ``(H, W, 3)`` or, where all is grey, to values."""
    colours = channels[..., :3] if channels.shape[2] >= 3 else channels[..., :1]
    if channels.shape[2] in (2, 4):
        alpha = channels[..., -1]
        if (colours == colours[0, 0]).all() and (alpha != alpha[0, 0]).any():
            return alpha
    if (colours == colours[..., :1]).all():
        return colours[..., 0]
    return colours


def _decide(values: NDArray[Any], half: int, rule: MaskRule | None) -> DecodedMask:
    if values.ndim == 3:
        return _decide_colours(values, half, rule)
    top = int(values.max())
    mask = values == top
    at_top = np.count_nonzero(mask)
    if rule is None:
        if at_top == values.size:
            if top:
                return DecodedMask(mask, "uniform", ("mask-full",))
            return DecodedMask(~mask, "uniform", ("mask-empty",))
        if at_top == _count_nonzero(values):
            return DecodedMask(mask, "binary")
    present = np.flatnonzero(_histogram(values))
    few = len(present) <= MAX_CLASSES
    if rule == "labels" or (
        rule is None and few and top < LABEL_LIMIT and not (len(present) == 2 and present[0])
    ):
        return _label_map(values, present[present > 0], has_background=not present[0])
    if rule == "binary":
        return _judged(values != 0, "binary", doubtful=False)
    mask = values >= half
    hidden = not mask.any() and top > 0
    decoded = _judged(mask, "threshold", doubtful=rule is None and (few or hidden))
    if "mask-ambiguous" not in decoded.findings:
        return decoded
    return replace(decoded, grey=_count_nonzero(values) - int(np.count_nonzero(mask)))


def _decide_lossy(values: NDArray[Any], half: int) -> DecodedMask:
    """Decide about a JPEG file, in which every value is surrounded by others that nobody wrote.

    What is not black and white is cut at half of its strongest value, and is in doubt.
    """
    grey = values.max(axis=2) if values.ndim == 3 else values
    top = int(grey.max())
    if top < half:
        return _judged(grey > top / 2, "threshold", doubtful=top > 0)
    mask = grey >= half
    between = np.count_nonzero((grey >= top / 4) & ~mask)
    return _judged(mask, "threshold", doubtful=bool(4 * between > np.count_nonzero(mask)))


def _decide_colours(colours: NDArray[np.uint8], half: int, rule: MaskRule | None) -> DecodedMask:
    wide = colours.astype(np.uint32)
    packed = (wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]).astype(np.uint32)
    present = _distinct(packed)
    if rule == "binary" or (rule is None and len(present) == 2 and present[0] == 0):
        return _judged(packed != 0, "binary", doubtful=False)
    if rule == "labels" or (rule is None and len(present) <= MAX_CLASSES):
        return _label_map(packed, present[present > 0], has_background=present[0] == 0)
    return _judged(colours.max(axis=2) >= half, "threshold", doubtful=rule is None)


def _label_map(values: NDArray[Any], present: NDArray[Any], *, has_background: bool) -> DecodedMask:
    if len(present) > 255:
        raise MaskError(
            f"the mask has {len(present)} distinct values above 0, too many for a label map. "
            "Choose the rule binary or threshold."
        )
    labels = np.zeros(values.shape, np.uint8)
    for number, value in enumerate(present, start=1):
        labels[values == value] = number
    if values.dtype == np.uint32:
        classes: tuple[Any, ...] = tuple(
            (int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in present
        )
    else:
        classes = tuple(int(v) for v in present)
    decoded = _judged(labels > 0, "labels", doubtful=not has_background)
    return DecodedMask(decoded.mask, "labels", decoded.findings, classes, labels)


def _judged(mask: NDArray[np.bool_], rule: MaskRule, *, doubtful: bool) -> DecodedMask:
    findings = ["mask-empty"] if not mask.any() else ["mask-full"] if mask.all() else []
    if doubtful:
        findings.append("mask-ambiguous")
    return DecodedMask(mask, rule, tuple(findings))


def _count_nonzero(values: NDArray[Any]) -> int:
    return int(cv2.countNonZero(values) if values.dtype == np.uint8 else np.count_nonzero(values))


def _histogram(values: NDArray[Any]) -> NDArray[Any]:
    """Return how often each value of a uint8 or uint16 array occurs."""
    if values.dtype == np.uint8:
        return cv2.calcHist([values], [0], None, [256], [0, 256]).ravel()
    return np.bincount(values.ravel())


def _distinct(packed: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the sorted distinct values, or the first of them once they exceed a label map's."""
    rest, found = packed.ravel(), list[np.uint32]()
    while rest.size and len(found) <= 255:
        found.append(rest[0])
        rest = rest[rest != rest[0]]
    return np.sort(np.array(found, np.uint32))
