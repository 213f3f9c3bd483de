"""Annotation folders with a known truth, in every form, and what befalls them on their way."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 20, 24
SPLITS = ("train", "val", "test")


@dataclass
class Truth:
    """One image: its label and mask, by the digest of its bytes."""

    digest: str
    split: str
    stem: str
    kind: str
    box: tuple[int, int, int, int] | None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """``(H, W)`` bool."""
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            mask[y0:y1, x0:x1] = True
        return mask

    @property
    def ring(self) -> list[int]:
        """x and y of the four corners of the defect."""
        assert self.box is not None
        x0, y0, x1, y1 = self.box
        return [x0, y0, x1, y0, x1, y1, x0, y1]


@dataclass
class Folder:
    """A folder that is written and then harmed."""

    root: Path
    form: str
    draw: random.Random
    truths: dict[str, Truth] = field(default_factory=dict)

    def add(self, name: str, split: str, stem: str, kind: str) -> Truth:
        """Write an image nobody else has, defective unless ``kind`` is empty."""
        suffix = Path(name).suffix
        pixels = np.frombuffer(self.draw.randbytes(HEIGHT * WIDTH * 3), np.uint8)
        buffer = io.BytesIO()
        image = Image.fromarray(pixels.reshape(HEIGHT, WIDTH, 3))
        image.save(buffer, "JPEG" if suffix == ".jpg" else "PNG")
        self.write(name, buffer.getvalue())
        x0, y0 = self.draw.randrange(WIDTH - 4), self.draw.randrange(HEIGHT - 4)
        box = (x0, y0, self.draw.randrange(x0 + 2, WIDTH), self.draw.randrange(y0 + 2, HEIGHT))
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        truth = Truth(digest, split, stem, kind, box if kind else None)
        self.truths[digest] = truth
        return truth

    def write(self, name: str, data: bytes) -> None:
        """Write a file."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def mask(self, name: str, truth: Truth, *, indexed: bool = False) -> None:
        """Write a mask as PNG."""
        image = Image.fromarray(truth.mask.astype(np.uint8) * np.uint8(1 if indexed else 255))
        if indexed:
            image.putpalette([0, 0, 0, 128, 0, 0])
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        self.write(name, buffer.getvalue())

    def json(self, name: str, content: object) -> None:
        """Write a JSON file."""
        self.write(name, json.dumps(content).encode())

    def files(self) -> list[Path]:
        """Return all files."""
        return sorted(path for path in self.root.rglob("*") if path.is_file())

    def images(self) -> list[Path]:
        """Return the photographs."""
        return [path for path in self.files() if digest_of(path) in self.truths]

    def others(self) -> list[Path]:
        """Return masks, annotations and lists."""
        return [path for path in self.files() if digest_of(path) not in self.truths]


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plan(folder: Folder) -> list[tuple[str, str, str]]:
    """Return split, stem and type of every image; some stems are in several splits."""
    planned = []
    for split in SPLITS:
        for number in range(folder.draw.randint(2, 3)):
            kind = "" if number == 0 else folder.draw.choice(["dent", "scratch"])
            planned.append((split, f"{number:03d}", kind))
    return planned


def write_coco(folder: Folder) -> None:
    """COCO, a file for each split."""
    for split in SPLITS:
        images, annotations = [], []
        for number, (own, stem, kind) in enumerate(_plan(folder), start=1):
            if own != split:
                continue
            truth = folder.add(f"images/{split}/{stem}.jpg", split, stem, kind)
            name = f"{split}/{stem}.jpg"
            images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
            if kind:
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "bbox": [],
                    "category_id": ["dent", "scratch"].index(kind) + 1,
                    "segmentation": [truth.ring],
                })  # fmt: skip
        categories = [{"id": 1, "name": "dent"}, {"id": 2, "name": "scratch"}]
        folder.json(
            f"annotations/instances_{split}.json",
            {"images": images, "annotations": annotations, "categories": categories},
        )


def write_labelme(folder: Folder) -> None:
    """labelme, a JSON file beside every image."""
    for split, stem, kind in _plan(folder):
        truth = folder.add(f"{split}/{stem}.jpg", split, stem, kind)
        shape = {"label": kind, "shape_type": "polygon"}
        if kind:
            shape["points"] = np.reshape(truth.ring, (4, 2)).tolist()
        folder.json(f"{split}/{stem}.json", {
            "version": "5.5.0", "flags": {}, "shapes": [shape] if kind else [],
            "imagePath": f"{stem}.jpg", "imageData": None,
            "imageHeight": HEIGHT, "imageWidth": WIDTH,
        })  # fmt: skip


def write_yolo(folder: Folder) -> None:
    """YOLO segmentation."""
    for split, stem, kind in _plan(folder):
        truth = folder.add(f"images/{split}/{stem}.jpg", split, stem, kind)
        line = ""
        if kind:
            values = [v / (WIDTH, HEIGHT)[n % 2] for n, v in enumerate(truth.ring)]
            line = f"{['dent', 'scratch'].index(kind)} {' '.join(f'{v:.9f}' for v in values)}\n"
        folder.write(f"labels/{split}/{stem}.txt", line.encode())
    text = "".join(f"{split}: images/{split}\n" for split in SPLITS)
    folder.write("data.yaml", f"{text}names: [dent, scratch]\n".encode())


def write_voc(folder: Folder) -> None:
    """Pascal VOC with class images."""
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    for number, (split, _, kind) in enumerate(_plan(folder)):
        stem = f"{number:03d}"
        truth = folder.add(f"JPEGImages/{stem}.jpg", split, stem, kind)
        thing = f"<object><name>{kind}</name></object>" if kind else ""
        text = f"<annotation><filename>{stem}.jpg</filename>{thing}</annotation>"
        folder.write(f"Annotations/{stem}.xml", text.encode())
        if kind:
            folder.mask(f"SegmentationClass/{stem}.png", truth, indexed=True)
        lists[split].append(stem)
    for split, names in lists.items():
        folder.write(f"ImageSets/Segmentation/{split}.txt", "\n".join(names).encode())


def write_pairs(folder: Folder) -> None:
    """Masks beside the images, a folder for each type."""
    for number, (_, _, kind) in enumerate(_plan(folder)):
        place = f"{kind or 'good'}/{number:03d}"
        truth = folder.add(f"{place}.jpg", "", f"{number:03d}", kind)
        if kind:
            folder.mask(f"{place}.png", truth)


def write_side_by_side(folder: Folder) -> None:
    """Images and masks in two folders of each split; an empty mask is good."""
    for split, stem, kind in _plan(folder):
        truth = folder.add(f"{split}/images/{stem}.jpg", split, stem, "bad" if kind else "")
        folder.mask(f"{split}/masks/{stem}.png", truth)


def write_mvtec(folder: Folder, ending: str = "_mask") -> None:
    """MVTec's tree."""
    for number, (split, _, kind) in enumerate(_plan(folder)):
        own, stem = split if not kind else "test", f"{number:03d}"
        truth = folder.add(f"Part/{own}/{kind or 'good'}/{stem}.png", own, stem, kind)
        if kind:
            folder.mask(f"Part/ground_truth/{kind}/{stem}{ending}.png", truth)


def write_tree(folder: Folder) -> None:
    """3CAD's tree."""
    write_mvtec(folder, "")


def write_table(folder: Folder) -> None:
    """anomalib's table."""
    rows = []
    for split, stem, kind in _plan(folder):
        place = f"{split}/{kind or 'ok'}/{stem}"
        truth = folder.add(f"{place}.png", split, stem, kind)
        mask = f"masks/{place}.png" if kind else ""
        if kind:
            folder.mask(mask, truth)
        rows.append([f"{place}.png", folder.draw.choice([int(bool(kind)), bool(kind)]), split,
                     mask, kind or "good"])  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["image_path", "label_index", "split", "mask_path", "defect_type"])
    writer.writerows(rows)
    folder.write("Part.csv", text.getvalue().encode())


def write_meta(folder: Folder) -> None:
    """The meta.json of ADer."""
    document: dict[str, dict[str, list[dict[str, Any]]]] = {"train": {}, "test": {}}
    for number, (split, _, kind) in enumerate(_plan(folder)):
        own, stem = ("test" if kind or split == "val" else split), f"{number:03d}"
        truth = folder.add(f"Part/{own}/{kind or 'good'}/{stem}.png", own, stem, kind)
        mask = f"Part/ground_truth/{kind}/{stem}.png" if kind else ""
        if kind:
            folder.mask(mask, truth)
        document[own].setdefault("Part", []).append({
            "img_path": f"Part/{own}/{kind or 'good'}/{stem}.png", "mask_path": mask,
            "cls_name": "Part", "specie_name": kind or "good", "anomaly": int(bool(kind)),
        })  # fmt: skip
    folder.json("meta.json", document)


FORMS: dict[str, Callable[[Folder], None]] = {
    "coco": write_coco,
    "labelme": write_labelme,
    "yolo": write_yolo,
    "voc": write_voc,
    "pairs": write_pairs,
    "side-by-side": write_side_by_side,
    "mvtec": write_mvtec,
    "3cad": write_tree,
    "anomalib": write_table,
    "meta-json": write_meta,
}


# What befalls them. None of it changes what is true of an image that is still there.


def _move(path: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def drop_image(folder: Folder) -> None:
    """An image is gone."""
    folder.draw.choice(folder.images()).unlink()


def drop_other(folder: Folder) -> None:
    """A mask, annotation or list is gone."""
    folder.draw.choice(folder.others()).unlink()


def rename_any(folder: Folder) -> None:
    """A file has another stem."""
    path = folder.draw.choice(folder.files())
    stem = folder.draw.choice([f"{path.stem}x", f"{path.stem} copy", f"{path.stem}{path.suffix}"])
    _move(path, path.with_name(stem + path.suffix))


def change_case(folder: Folder) -> None:
    """A file or folder is written in capitals."""
    path = folder.draw.choice([*folder.files(), *(f.parent for f in folder.files())])
    if path != folder.root and path.is_relative_to(folder.root):
        _move(path, path.with_name(path.name.upper()))


def change_suffix(folder: Folder) -> None:
    """A file has another suffix."""
    path = folder.draw.choice(folder.files())
    _move(path, path.with_suffix(folder.draw.choice([".jpeg", ".png", ".bmp", ".JPG", ".txt"])))


def move_any(folder: Folder) -> None:
    """A file stands in another folder of the same source."""
    path = folder.draw.choice(folder.files())
    parents = sorted({file.parent for file in folder.files()} | {folder.root / "new"})
    _move(path, folder.draw.choice(parents) / path.name)


def duplicate_image(folder: Folder) -> None:
    """Another image has nearly the place of one, and nobody has labelled it."""
    path = folder.draw.choice(folder.images())
    if path.suffix.casefold() not in (".jpg", ".jpeg", ".png", ".bmp"):
        return
    name = folder.draw.choice([f"{path.stem}.bmp", f"{path.stem}-2{path.suffix}", path.name])
    parents = sorted({file.parent for file in folder.images()} | {path.parent / "more"})
    target = folder.draw.choice(parents) / name
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH), folder.draw.randrange(255), np.uint8)).save(target)


def duplicate_other(folder: Folder) -> None:
    """A mask or annotation is there twice, under a name of no image."""
    path = folder.draw.choice(folder.others())
    target = path.with_name(f"{path.stem}-copy{path.suffix}")
    target.write_bytes(path.read_bytes())


def encode(folder: Folder) -> None:
    """A text was saved by another editor."""
    path = _text(folder)
    if path is not None:
        try:
            text = path.read_bytes().decode()
        except UnicodeDecodeError:
            return
        encoding = folder.draw.choice(["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "cp500"])
        if text.isascii():
            path.write_bytes(text.encode(encoding))


def cut_off(folder: Folder) -> None:
    """A text ends in the middle of what it says."""
    path = _text(folder)
    if path is not None and path.suffix in (".json", ".xml"):
        data = path.read_bytes()
        path.write_bytes(data[: folder.draw.randrange(1, max(2, len(data) - 1))])


def change_value(folder: Folder) -> None:
    """A field of a JSON file has another type or is gone."""
    path = _text(folder)
    if path is None or path.suffix != ".json":
        return
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return  # it has been cut off or encoded anew
    places = list(_places(document))
    if not places:
        return
    holder, key = folder.draw.choice(places)
    old = holder[key]
    new = folder.draw.choice([None, str(old), [], {}, "", "9999", 1e30, float("nan"), [old]])
    if key in _MEANT and not isinstance(old, (list, dict)):
        new = folder.draw.choice([str(old), None, {}, [old]])
    if key in ("annotations", "shapes") or key == "segmentation":
        return  # an empty list of shapes says that the image is good
    holder[key] = new
    path.write_text(json.dumps(document))


_MEANT = ("anomaly", "anomaly_class", "category_id", "label", "name", "specie_name", "shape_type")


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every holder and key of a JSON document that is not a list of shapes itself."""
    found: list[tuple[Any, Any]] = []
    pairs = value.items() if isinstance(value, dict) else []
    for key, inner in pairs:
        found.append((value, key))
        found += _places(inner)
    if isinstance(value, list):
        for inner in value:
            found += _places(inner)
    return found


def _text(folder: Folder) -> Path | None:
    kinds = (".json", ".xml", ".txt", ".csv", ".yaml")
    texts = [path for path in folder.others() if path.suffix in kinds]
    return folder.draw.choice(texts) if texts else None


MUTATIONS: dict[str, Callable[[Folder], None]] = {
    f.__name__: f
    for f in (
        drop_image,
        drop_other,
        rename_any,
        change_case,
        change_suffix,
        move_any,
        duplicate_image,
        duplicate_other,
        encode,
        cut_off,
        change_value,
    )
}
