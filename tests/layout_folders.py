"""Public data sets and annotation programs as they lay out their folders, with a known truth."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import annotation_folders
import numpy as np
from annotation_folders import HEIGHT, SPLITS, WIDTH, Folder, Truth
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

KINDS = ("dent", "scratch")


def _plan(
    folder: Folder, splits: tuple[str, ...] = ("train", "test"), *, defects_in: str = "test"
) -> Iterator[tuple[str, str, str]]:
    """Yield split, stem and kind; stems are unique, one image of each split is good."""
    number = 0
    for split in splits:
        for turn in range(folder.draw.randint(2, 3)):
            defective = turn and split in defects_in.split()
            yield split, f"{number:03d}", folder.draw.choice(KINDS) if defective else ""
            number += 1


def _both(folder: Folder) -> Iterator[tuple[str, str, str]]:
    return _plan(folder, SPLITS, defects_in="train val test")


def _save(folder: Folder, name: str, mask: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    suffix = name.rsplit(".", 1)[-1].lower()
    Image.fromarray(mask.astype(np.uint8)).save(buffer, "BMP" if suffix == "bmp" else "PNG")
    folder.write(name, buffer.getvalue())


def _halves(truth: Truth) -> list[NDArray[np.bool_]]:
    """Return two masks that overlap and unite to that of an image."""
    x0, _, x1, _ = truth.box or (0, 0, 0, 0)
    left, right = truth.mask, truth.mask
    left[:, (x0 + x1) // 2 + 1 :] = False
    right[:, : (x0 + x1) // 2] = False
    return [left, right]


def write_btad(folder: Folder) -> None:
    """BTAD: ok and ko, images and some masks as BMP."""
    for split, stem, kind in _plan(folder):
        place = f"01/{split}/{'ko' if kind else 'ok'}/{stem}.bmp"
        truth = folder.add(place, split, stem, "ko" if kind else "")
        if kind:
            folder.mask(f"01/ground_truth/ko/{stem}.png", truth)


def write_loco(folder: Folder) -> None:
    """MVTec LOCO: a folder of masks for every image, each of one grey value."""
    for split, stem, kind in _plan(folder, SPLITS):
        own = {"val": "validation"}.get(split, split)
        kind = kind and {"dent": "logical", "scratch": "structural"}[kind] + "_anomalies"
        truth = folder.add(f"box/{own}/{kind or 'good'}/{stem}.png", split, stem, kind)
        for number, half in enumerate(_halves(truth) if kind else []):
            value = folder.draw.choice([1, 3, 234, 255])
            _save(folder, f"box/ground_truth/{kind}/{stem}/{number:03d}.png", half * value)
    folder.json("box/defects_config.json", [{"defect_name": "gap", "pixel_value": 255}])


def write_ad2(folder: Folder) -> None:
    """MVTec AD 2: test_public in several lights; private tests without labels."""
    places = {"train": "train", "val": "validation", "test": "test_public"}
    for split, number, kind in _plan(folder, SPLITS):
        stem = f"{number}_{folder.draw.choice(['regular', 'overexposed', 'shift_1'])}"
        kind = kind and "bad"
        truth = folder.add(f"can/{places[split]}/{kind or 'good'}/{stem}.png", split, stem, kind)
        if kind:
            folder.mask(f"can/test_public/ground_truth/bad/{stem}_mask.png", truth)
    if folder.form == "mvtec-ad-2-private":
        for place in ("test_private", "test_private_mixed"):
            folder.add(f"can/{place}/000_{place}.png", "", "000", "")


def write_real_iad(folder: Folder) -> None:
    """Real-IAD with its lists."""
    document: dict[str, Any] = {
        "meta": {"normal_class": "OK", "prefix": "jack/"}, "train": [], "test": [],
    }  # fmt: skip
    for split, stem, kind in _plan(folder):
        place = f"NG/{kind}/S{stem}/jack_{stem}_NG_C1" if kind else f"OK/S{stem}/jack_{stem}_OK_C1"
        truth = folder.add(f"realiad_1024/jack/{place}.jpg", split, stem, kind)
        if kind:
            folder.mask(f"realiad_1024/jack/{place}.png", truth)
        document[split].append({
            "category": "jack", "anomaly_class": kind or "OK", "image_path": f"{place}.jpg",
            "mask_path": f"{place}.png" if kind else None,
        })  # fmt: skip
    folder.json("realiad_jsons/jack.json", document)


def write_real_iad_folders(folder: Folder) -> None:
    """Real-IAD without lists."""
    write_real_iad(folder)
    (folder.root / "realiad_jsons/jack.json").unlink()
    for truth in folder.truths.values():
        truth.split = ""


def write_ksdd(folder: Folder) -> None:
    """KolektorSDD: a folder for every part, a label image for every photograph."""
    for number, (_, _, kind) in enumerate(_both(folder)):
        place = f"kos{number // 3 + 1:02d}/Part{number % 3}"
        truth = folder.add(f"{place}.jpg", "", f"Part{number % 3}", "bad" if kind else "")
        _save(folder, f"{place}_label.bmp", truth.mask * 255)


def write_ksdd2(folder: Folder) -> None:
    """KolektorSDD2: train and test, a mask for every photograph."""
    for split, stem, kind in _plan(folder, defects_in="train test"):
        truth = folder.add(f"{split}/20{stem}.png", split, f"20{stem}", "bad" if kind else "")
        _save(folder, f"{split}/20{stem}_GT.png", truth.mask * 255)


def write_dagm(folder: Folder) -> None:
    """DAGM 2007: a list for each split, masks of the defective ones."""
    lines: dict[str, list[str]] = {"train": ["1"], "test": ["1"]}
    for number, (split, stem, kind) in enumerate(_plan(folder, defects_in="train test")):
        place = f"Class1/{split.title()}"
        truth = folder.add(f"{place}/0{stem}.PNG", split, f"0{stem}", "bad" if kind else "")
        if kind:
            folder.mask(f"{place}/Label/0{stem}_label.PNG", truth)
        mask = f"0{stem}_label.PNG" if kind else "0"
        lines[split].append(f"{number}\t{int(bool(kind))}\t0{stem}.PNG\t0\t{mask}")
    for split, listed in lines.items():
        text = "\n".join(listed) + "\n"
        folder.write(f"Class1/{split.title()}/Label/Labels.txt", b"\xef\xbb\xbf" + text.encode())


def _visa(folder: Folder) -> list[tuple[str, str, str, str, str]]:
    rows = []
    for split, stem, kind in _plan(folder):
        place = f"candle/Data/Images/{'Anomaly' if kind else 'Normal'}/{stem}.JPG"
        mask = f"candle/Data/Masks/Anomaly/{stem}.png" if kind else ""
        truth = folder.add(place, split, stem, kind)
        if kind:
            _save(folder, mask, truth.mask * folder.draw.randint(1, 5))
        rows.append((split, stem, kind, place, mask))
    lines = [f"{place},{kind or 'normal'},{mask}" for _, _, kind, place, mask in rows]
    text = "image,label,mask\n" + "\n".join(lines) + "\n"
    folder.write("candle/image_anno.csv", text.encode())
    return rows


def write_visa(folder: Folder) -> None:
    """VisA with its table."""
    lines = ["object,split,label,image,mask"]
    for split, _, kind, place, mask in _visa(folder):
        lines.append(f"candle,{split},{'anomaly' if kind else 'normal'},{place},{mask}")
    folder.write("split_csv/1cls.csv", "\n".join(lines).encode())
    folder.write("split_csv/2cls_fewshot.csv", lines[0].encode())


def write_visa_folders(folder: Folder) -> None:
    """VisA without its table."""
    _visa(folder)
    for truth in folder.truths.values():
        truth.split = ""


def _coco(rows: list[tuple[str, Truth]]) -> dict[str, Any]:
    images, annotations = [], []
    for number, (name, truth) in enumerate(rows):
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        if truth.kind:
            annotations.append({
                "id": len(annotations), "image_id": number, "iscrowd": 0, "bbox": [],
                "category_id": KINDS.index(truth.kind) + 1, "segmentation": [truth.ring],
            })  # fmt: skip
    categories = [{"id": n, "name": name} for n, name in enumerate(("defects", *KINDS))]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco_2017(folder: Folder) -> None:
    """COCO with folders of a year."""
    rows: dict[str, list[tuple[str, Truth]]] = {split: [] for split in SPLITS}
    for split, stem, kind in _both(folder):
        truth = folder.add(f"{split}2017/{stem}.jpg", split, stem, kind)
        rows[split].append((f"{stem}.jpg", truth))
    for split, listed in rows.items():
        folder.json(f"annotations/instances_{split}2017.json", _coco(listed))


def write_roboflow_coco(folder: Folder) -> None:
    """Roboflow's COCO: an annotation file beside the images of each split."""
    rows: dict[str, list[tuple[str, Truth]]] = {split: [] for split in SPLITS}
    for split, stem, kind in _both(folder):
        own = {"val": "valid"}.get(split, split)
        name = f"{stem}_jpg.rf.0a1b2c.jpg"
        rows[split].append((name, folder.add(f"{own}/{name}", split, stem, kind)))
    for split, listed in rows.items():
        own = {"val": "valid"}.get(split, split)
        folder.json(f"{own}/_annotations.coco.json", _coco(listed))
    folder.write("README.roboflow.txt", b"exported")


def _yolo_line(truth: Truth) -> bytes:
    if not truth.kind:
        return b""
    values = [f"{v / (WIDTH, HEIGHT)[n % 2]:.9f}" for n, v in enumerate(truth.ring)]
    return f"{KINDS.index(truth.kind)} {' '.join(values)}\n".encode()


def write_roboflow_yolo(folder: Folder) -> None:
    """Roboflow's YOLO: data.yaml points out of its own folder."""
    for split, stem, kind in _both(folder):
        own = {"val": "valid"}.get(split, split)
        truth = folder.add(f"{own}/images/{stem}.jpg", split, stem, kind)
        folder.write(f"{own}/labels/{stem}.txt", _yolo_line(truth))
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
    folder.write("data.yaml", f"{text}names: ['dent', 'scratch']\n".encode())


def write_ultralytics(folder: Folder) -> None:
    """Ultralytics' YOLO: a path of another machine, names by number, lists of images."""
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, stem, kind in _both(folder):
        truth = folder.add(f"images/{split}/{stem}.jpg", split, stem, kind)
        folder.write(f"labels/{split}/{stem}.txt", _yolo_line(truth))
        lists[split].append(f"./images/{split}/{stem}.jpg")
    for split, names in lists.items():
        folder.write(f"{split}.txt", "\n".join(names).encode())
    text = "path: ../datasets/parts\ntrain: train.txt\nval: val.txt\ntest: test.txt\n"
    folder.write("parts.yaml", f"{text}names:\n  0: dent\n  1: scratch\n".encode())


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """Return how often background and defect take turns, row by row."""
    flat = mask.ravel().astype(np.int8)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return np.diff([0, *edges.tolist()]).tolist()


def write_cvat(folder: Folder) -> None:
    """CVAT for images: polygons and masks."""
    lines = ["<?xml version='1.0' encoding='utf-8'?>", "<annotations>", "<version>1.1</version>"]
    for number, (split, stem, kind) in enumerate(_both(folder)):
        truth = folder.add(f"images/{split}/{stem}.jpg", split, stem, kind)
        lines.append(
            f'<image id="{number}" name="{split}/{stem}.jpg" width="{WIDTH}" height="{HEIGHT}">'
        )
        if kind and folder.draw.random() < 0.5:
            points = ";".join(f"{x},{y}" for x, y in np.reshape(truth.ring, (4, 2)))
            lines.append(f'<polygon label="{kind}" occluded="0" points="{points}"/>')
        elif kind:
            assert truth.box is not None
            x0, y0, x1, y1 = truth.box
            left, top = max(0, x0 - 1), max(0, y0 - 1)
            runs = ", ".join(map(str, _runs(truth.mask[top:y1, left:x1])))
            lines.append(
                f'<mask label="{kind}" rle="{runs}" left="{left}" top="{top}" '
                f'width="{x1 - left}" height="{y1 - top}"/>'
            )
        lines.append("</image>")
    folder.write("annotations.xml", "\n".join([*lines, "</annotations>"]).encode())


def write_cvat_mask(folder: Folder) -> None:
    """CVAT's segmentation masks: colours that labelmap.txt names, no XML."""
    colours = {"background": (0, 0, 0), "dent": (250, 50, 83), "scratch": (51, 221, 255)}
    lists: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, stem, kind in _both(folder):
        truth = folder.add(f"JPEGImages/{stem}.jpg", split, stem, kind)
        lists[split].append(stem)
        mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        if kind:
            mask[truth.mask] = colours[kind]
        _save(folder, f"SegmentationClass/{stem}.png", mask)
    lines = ["# label:color_rgb:parts:actions"]
    lines += [f"{name}:{','.join(map(str, colour))}::" for name, colour in colours.items()]
    folder.write("labelmap.txt", "\n".join(lines).encode())
    for split, names in lists.items():
        folder.write(f"ImageSets/Segmentation/{split}.txt", "\n".join(names).encode())


def pack_brush(mask: NDArray[np.bool_]) -> list[int]:
    """Return a mask in Label Studio's run lengths of an RGBA image."""
    values = np.repeat(mask.ravel() * np.uint8(255), 4)
    sizes = [3, 4, 8, 16]
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    place = 0
    while place < len(values):
        count = 1
        while place + count < len(values) and values[place + count] == values[place]:
            count += 1
        fitting = next(n for n, size in enumerate(sizes) if count <= 2**size)
        if count <= 2:  # as they are
            bits += f"0{0:02b}{count - 1:03b}" + f"{values[place]:08b}" * count
        else:
            bits += f"1{fitting:02b}{count - 1:0{sizes[fitting]}b}{values[place]:08b}"
        place += count
    bits += "0" * (-len(bits) % 8)
    return [int(bits[n : n + 8], 2) for n in range(0, len(bits), 8)]


def _label_studio_result(truth: Truth, *, brush: bool) -> dict[str, Any]:
    kind = "brushlabels" if brush else "polygonlabels"
    value: dict[str, Any] = {kind: [truth.kind]}
    if brush:
        value.update(format="rle", rle=pack_brush(truth.mask))
    else:
        percent = [v * 100 / (WIDTH, HEIGHT)[n % 2] for n, v in enumerate(truth.ring)]
        value["points"] = np.reshape(percent, (4, 2)).tolist()
    return {
        "id": "a1", "type": kind, "value": value, "from_name": "tag", "to_name": "image",
        "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0,
    }  # fmt: skip


def write_label_studio(folder: Folder) -> None:
    """Label Studio: uploaded and served files, brushes and polygons."""
    tasks = []
    for number, (_, stem, kind) in enumerate(_both(folder)):
        truth = folder.add(f"images/{stem}.jpg", "", stem, kind)
        address = folder.draw.choice([
            f"/data/upload/1/0a1b2c3d-{stem}.jpg", f"/data/local-files/?d=images/{stem}.jpg",
            f"s3://bucket/images/{stem}.jpg", f"http://localhost:8080/images/{stem}.jpg",
        ])  # fmt: skip
        brush = folder.draw.random() < 0.5
        results = [_label_studio_result(truth, brush=brush)] if kind else []
        made = [{"id": number, "was_cancelled": False, "result": results}]
        tasks.append({"id": number, "data": {"image": address}, "annotations": made})
    folder.json("project-1-at-2026-01-01.json", tasks)


def write_datumaro(folder: Folder) -> None:
    """Datumaro: a JSON file for each split, polygons and run lengths."""
    items: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for split, stem, kind in _both(folder):
        truth = folder.add(f"images/{split}/{stem}.jpg", split, stem, kind)
        shape: dict[str, Any] = {"id": 0, "label_id": KINDS.index(kind) if kind else 0, "group": 0}
        if folder.draw.random() < 0.5 and kind:
            shape.update(type="polygon", points=truth.ring)
        elif kind:
            packed = coco_mask.encode(np.asfortranarray(truth.mask.astype(np.uint8)))
            counts = packed["counts"].decode()
            shape.update(type="mask", rle={"counts": counts, "size": [HEIGHT, WIDTH]})
        items[split].append({
            "id": stem, "annotations": [shape] if kind else [],
            "image": {"path": f"{stem}.jpg", "size": [HEIGHT, WIDTH]},
        })  # fmt: skip
    labels = [{"name": name, "parent": "", "attributes": []} for name in KINDS]
    for split, listed in items.items():
        folder.json(f"annotations/{split}.json", {
            "info": {}, "categories": {"label": {"labels": labels}}, "items": listed,
        })  # fmt: skip


def write_images_masks(folder: Folder) -> None:
    """Images and masks side by side, below types and splits."""
    for split, stem, kind in _both(folder):
        place = f"{kind or 'good'}/{split}"
        truth = folder.add(f"{place}/images/{stem}.jpg", split, stem, kind)
        if kind:
            folder.mask(f"{place}/masks/{stem}.png", truth)


LAYOUTS: dict[str, tuple[str, Callable[[Folder], None]]] = {
    "btad": ("3cad", write_btad),
    "mvtec-loco": ("mvtec", write_loco),
    "mvtec-ad-2": ("mvtec", write_ad2),
    "real-iad": ("real-iad", write_real_iad),
    "real-iad-folders": ("real-iad", write_real_iad_folders),
    "ksdd": ("pairs", write_ksdd),
    "ksdd2": ("pairs", write_ksdd2),
    "dagm": ("dagm", write_dagm),
    "visa": ("visa", write_visa),
    "visa-folders": ("visa", write_visa_folders),
    "coco-2017": ("coco", write_coco_2017),
    "roboflow-coco": ("coco", write_roboflow_coco),
    "roboflow-yolo": ("yolo", write_roboflow_yolo),
    "ultralytics": ("yolo", write_ultralytics),
    "cvat": ("cvat", write_cvat),
    "cvat-mask": ("voc", write_cvat_mask),
    "label-studio": ("label-studio", write_label_studio),
    "datumaro": ("datumaro", write_datumaro),
    "images-masks": ("pairs", write_images_masks),
}
"""What each is recognised as, and what writes it."""

FORMS = {**annotation_folders.FORMS, **{name: write for name, (_, write) in LAYOUTS.items()}}
"""Every form of folder that is written here or in ``annotation_folders``."""

TRACELESS = ("mvtec-loco", "cvat-mask")
"""Layouts in which a mask that is gone leaves no trace: one of several of an image, or that of an
image which is good where it has none."""
