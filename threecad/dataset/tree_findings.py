"""What a scan can find wrong with a tree, as findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from threecad.dataset.findings import Finding
from threecad.dataset.samples import relative_path

if TYPE_CHECKING:
    from pathlib import Path

    from threecad.dataset.samples import Sample

__all__ = [
    "category_empty",
    "mask_misplaced",
    "mask_missing",
    "mask_of_good",
    "mask_orphan",
    "mask_shared",
    "no_image",
    "not_a_file",
    "not_a_type",
    "not_text",
]


def not_text(root: Path, path: Path) -> Finding:
    """A file whose name is no UTF-8."""
    name = relative_path(path, root).encode(errors="surrogateescape").decode(errors="replace")
    return Finding(
        "file-broken",
        "error",
        f"{name} has a name that is no UTF-8. It is left out.",
        path=name,
        advice="Rename it; an archive may have been unpacked under another encoding.",
    )


def category_empty(root: Path, path: Path) -> Finding:
    """A category without images."""
    name = relative_path(path, root)
    return Finding(
        "category-empty",
        "warning",
        f"{name} holds no image and is passed over.",
        path=name,
        advice="Expected train/good/*.png and test/<defect type>/*.png in it; or remove it.",
    )


def not_a_file(root: Path, path: Path) -> Finding:
    """A folder, a link to nowhere or a device where an image should be."""
    name = relative_path(path, root)
    if path.is_dir():
        return Finding(
            "folder-unexpected",
            "warning",
            f"{name} is a folder among images; what is in it is ignored.",
            path=name,
            advice="Move its images up, or remove it.",
        )
    return Finding(
        "file-broken",
        "error",
        f"{name} is no file: a link to nowhere, or a device. It is left out.",
        path=name,
        advice="Restore what it points to, or remove it.",
    )


def not_a_type(root: Path, path: Path) -> Finding:
    """A folder of masks where one of a defect type should be."""
    name = relative_path(path, root)
    return Finding(
        "folder-unexpected",
        "warning",
        f"{name} is a folder of masks or annotations among images; what is in it is ignored.",
        path=name,
        advice="Move masks to ground_truth/<defect type>, or remove it.",
    )


def mask_misplaced(root: Path, path: Path) -> Finding:
    """A mask among the photographs."""
    name = relative_path(path, root)
    return Finding(
        "mask-misplaced",
        "error",
        f"{name} is a mask beside its image and is left out.",
        path=name,
        advice="Move it to ground_truth/<defect type>, called like its image.",
    )


def mask_orphan(root: Path, mask: Path) -> Finding:
    """A mask without an image."""
    return Finding(
        "mask-orphan",
        "warning",
        f"{relative_path(mask, root)} has no image of its stem in test/{mask.parent.name}.",
        path=relative_path(mask, root),
        advice="Restore the image, or remove the mask.",
    )


def mask_shared(root: Path, sample: Sample, mask: Path) -> Finding:
    """A mask that several images might claim."""
    return Finding(
        "mask-shared",
        "error",
        f"{relative_path(mask, root)} may be the mask of {sample.id} or of an image of the same "
        "stem in another split. It is given to none.",
        id=sample.id,
        path=relative_path(mask, root),
        advice="Give the images stems of their own, and each its mask.",
    )


def mask_missing(root: Path, sample: Sample) -> Finding:
    """A defective image without a mask."""
    return Finding(
        "mask-missing",
        "error",
        f"{relative_path(sample.image, root)} is defective but has no mask.",
        id=sample.id,
        path=relative_path(sample.image, root),
        advice=f"Expected {sample.category}/ground_truth/{sample.defect_type}/"
        f"{sample.image.stem}.png.",
    )


def mask_of_good(root: Path, sample: Sample, mask: Path) -> Finding:
    """A mask of a good image."""
    return Finding(
        "mask-unexpected",
        "warning",
        f"{relative_path(sample.image, root)} is good but has a mask; the mask is ignored.",
        id=sample.id,
        path=relative_path(mask, root),
        advice="Remove the mask, or move the image to the folder of its defect type.",
    )


def no_image(root: Path, path: Path) -> Finding:
    """A file that is neither image nor mask."""
    name = relative_path(path, root)
    return Finding("file-unexpected", "info", f"{name} is not an image and is ignored.", path=name)
