"""The dataset as ``torch.utils.data`` and torchvision expect it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from threecad.dataset.samples import read_sample_mask
from threecad.dataset.scanning import Index, masks_expected, scan
from threecad.errors import MaskError, UsageError
from threecad.images.files import read_image

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection

    from threecad.dataset.samples import Sample

__all__ = ["ThreeCAD"]


class _OneSize:
    """Says what to do when images of two sizes are to be stacked, where torch would only refuse.

    The default collate function of ``torch.utils.data`` stacks whatever tensors it meets.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.stack:
            shapes = sorted({tuple(item.shape[-2:]) for item in args[0]})
            if len(shapes) > 1:
                sizes = ", ".join(f"{width} × {height}" for height, width in shapes)
                raise UsageError(
                    f"Images of different sizes ({sizes}) cannot form a batch. Give the dataset a "
                    "transform that resizes, such as torchvision.transforms.v2.Resize((256, 256)), "
                    "or use batch_size=1."
                )
        return super().__torch_function__(func, types, args, kwargs)  # type: ignore[misc]


class SampleImage(_OneSize, tv_tensors.Image):  # type: ignore[misc]
    """An image that names the transform that is missing when it cannot be batched."""


class SampleMask(_OneSize, tv_tensors.Mask):  # type: ignore[misc]
    """A mask that does the same."""


class ThreeCAD(Dataset[dict[str, Any]]):
    """3CAD, or any tree in its layout, one dict per image.

    ``dataset[i]`` holds:

    - ``image``: ``tv_tensors.Image``, (3, H, W) uint8, RGB;
    - ``mask``: ``tv_tensors.Mask``, (1, H, W) uint8, 1 on the defect; zeros for a good image;
    - ``label``: int, 0 good, 1 defective, from the folder and never from the mask;
    - ``category``, ``defect_type`` (``"good"`` for a defect-free image), ``id``, ``path``: str.

    No value is ever ``None``, so the default collate function batches them once a transform has
    given all images one size; without one it says what to add.

    Args:
        root: The folder that holds the category folders; an ``Index`` that was made already; or
            ``None`` for the default root.
        category: Only this category, or these.
        split: ``"train"``, ``"val"`` or ``"test"``; with a split file, the split it gives.
        transform: Called with the dict, as torchvision's v2 transforms are: image and mask move
            together.
        split_file: Take the splits from this file (see ``threecad split``).
        errata: Apply the corrections in this file (see ``threecad audit``).
        fold: Held-out fold, for a k-fold split file.

    Raises:
        LayoutError: If ``root`` is not such a tree.
        UsageError: If a category or split is not there.
        MaskError: On access, if a mask does not decode, is not of the size of its image, or is
            missing for a defective image; of a tree that was imported without masks all are zeros.

    Examples:
        >>> from torchvision.transforms import v2
        >>> from threecad import ThreeCAD
        >>> dataset = ThreeCAD(
        ...     "3cad", category="Copper_Stator", split="test", transform=v2.Resize((256, 256))
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | Index | None = None,
        *,
        category: str | Collection[str] | None = None,
        split: str | None = None,
        transform: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        split_file: str | os.PathLike[str] | None = None,
        errata: str | os.PathLike[str] | None = None,
        fold: int | None = None,
    ) -> None:
        if not isinstance(root, Index):
            root = scan(root, split_file=split_file, errata=errata, fold=fold)
        self.index = root.select(category=category, split=split)
        self.transform = transform
        self._masks_expected = masks_expected(self.index.root)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> dict[str, Any]:
        sample = self.index.samples[position]
        if sample.label and sample.mask is None and self._masks_expected:
            raise MaskError(
                f"{sample.image} is defective, but no mask is known to be its own. Run `threecad "
                "verify` on the tree, which says why, or leave it out with an errata file."
            )
        image = torch.from_numpy(read_image(sample.image)).permute(2, 0, 1).contiguous()
        item = {
            "image": SampleImage(image),
            "mask": SampleMask(_read_mask(sample, image)),
            "label": sample.label,
            "category": sample.category,
            "defect_type": sample.defect_type,
            "id": sample.id,
            "path": str(sample.image),
        }
        return item if self.transform is None else self.transform(item)

    def __repr__(self) -> str:
        return f"ThreeCAD({str(self.index.root)!r}, {len(self)} images)"


def _read_mask(sample: Sample, image: torch.Tensor) -> torch.Tensor:
    """Return the mask of ``sample`` as (1, H, W) uint8 0/1, zeros where it has none."""
    height, width = image.shape[1:]
    return torch.from_numpy(read_sample_mask(sample, (height, width))).to(torch.uint8)[None]
