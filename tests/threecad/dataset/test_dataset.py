"""The torch dataset: what an item holds, transforms, batching, workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

from threecad import ThreeCAD, scan
from threecad.errors import ImageError, MaskError, UsageError


def test_item_is_what_the_files_hold(tree: Path) -> None:
    dataset = ThreeCAD(tree, category="Copper_Stator", split="test")
    assert len(dataset) == 6
    for item, sample in zip(dataset, dataset.index, strict=True):
        pixels = np.asarray(Image.open(sample.image).convert("RGB"))
        assert isinstance(item["image"], tv_tensors.Image)
        assert isinstance(item["mask"], tv_tensors.Mask)
        assert item["image"].dtype == item["mask"].dtype == torch.uint8
        np.testing.assert_array_equal(item["image"].permute(1, 2, 0).numpy(), pixels)
        assert item["mask"].shape == (1, *pixels.shape[:2])
        if sample.mask:
            expected = np.asarray(Image.open(sample.mask)) > 127
            np.testing.assert_array_equal(item["mask"][0].numpy() == 1, expected)
        else:
            assert not item["mask"].any()
        assert item["label"] == sample.label == int(item["defect_type"] != "good")
        assert item["id"] == sample.id
        assert item["category"] == "Copper_Stator"
        assert item["path"] == str(sample.image)


def test_transform_moves_image_and_mask_together(tree: Path) -> None:
    plain = ThreeCAD(tree, split="test")
    flipped = ThreeCAD(tree, split="test", transform=v2.RandomHorizontalFlip(p=1))
    for a, b in zip(plain, flipped, strict=True):
        assert torch.equal(a["image"].flip(-1), b["image"])
        assert torch.equal(a["mask"].flip(-1), b["mask"])


@pytest.mark.parametrize("workers", [0, 2])
def test_default_collate_makes_the_same_batches_with_any_number_of_workers(
    tree: Path, workers: int
) -> None:
    dataset = ThreeCAD(tree, transform=v2.Resize((32, 48)))
    batches = list(DataLoader(dataset, batch_size=5, num_workers=workers))
    assert sum(len(batch["id"]) for batch in batches) == len(dataset)
    assert batches[0]["image"].shape == (5, 3, 32, 48)
    assert batches[0]["mask"].shape == (5, 1, 32, 48)
    assert [i for batch in batches for i in batch["id"]] == [s.id for s in dataset.index]
    images = torch.cat([batch["image"] for batch in batches])
    assert torch.equal(images, torch.stack([item["image"] for item in dataset]))


def test_images_of_several_sizes_say_what_transform_is_missing(tree: Path) -> None:
    dataset = ThreeCAD(tree)
    assert len({item["image"].shape for item in dataset}) > 1
    with pytest.raises(UsageError, match=r"v2\.Resize"):
        next(iter(DataLoader(dataset, batch_size=len(dataset))))


def test_takes_an_index(tree: Path) -> None:
    index = scan(tree).select(label=1)
    assert len(ThreeCAD(index, split="test")) == len(index)


def test_mask_of_another_size_names_both_files(tree: Path) -> None:
    dataset = ThreeCAD(tree)
    number = next(i for i, sample in enumerate(dataset.index) if sample.mask)
    mask = dataset.index.samples[number].mask
    Image.new("L", (7, 5), 255).save(mask)
    with pytest.raises(MaskError, match=r"7 × 5 pixels, but its image .*test"):
        dataset[number]


def test_truncated_image_names_the_file(tree: Path) -> None:
    dataset = ThreeCAD(tree)
    path = dataset.index.samples[0].image
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageError, match=path.name):
        dataset[0]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("L", 77, 77), ("I;16", 77 * 256 + 5, 77), ("P", 0, None), ("LA", (77, 3), 77), ("1", 1, 255)],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, value, expected: int | None) -> None:
    path = tmp_path / "Part" / "train" / "good" / "1.png"
    path.parent.mkdir(parents=True)
    Image.new(mode, (4, 3), value).save(path)
    image = ThreeCAD(tmp_path)[0]["image"]
    assert image.shape == (3, 3, 4)
    if expected is not None:
        assert (image == expected).all()


def test_oversized_image_is_refused_before_it_is_decoded(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threecad.images.files.MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="more than the 100"):
        ThreeCAD(tree)[0]
