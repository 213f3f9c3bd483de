"""Decide on images with an exported detector: numpy, Pillow and onnxruntime are all it takes.

With a least area it also takes scipy. Usage: python decide_onnxruntime.py model.onnx part.png …
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def decide(policy, score, anomaly_map, size):
    """Return good, review or defective; ``size`` is (width, height) of the image."""
    if policy["least_area"]:  # the regions decide, too
        from scipy import ndimage

        full = Image.fromarray(anomaly_map).resize(size, Image.Resampling.BILINEAR)
        flagged = np.asarray(full) > policy["pixel_threshold"]
        labels, _ = ndimage.label(flagged, np.ones((3, 3)))
        if not (np.bincount(labels.ravel())[1:] >= policy["least_area"]).any():
            return "good"
    if score > policy["defective"]:
        return "defective"
    if policy["review"] is not None and score > policy["review"]:
        return "review"
    return "good"


parser = argparse.ArgumentParser()
parser.add_argument("model", type=Path)
parser.add_argument("images", nargs="+")
parser.add_argument("--category", help="whose thresholds to decide by, where they differ")
arguments = parser.parse_args()

session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
known = json.loads(session.get_modelmeta().custom_metadata_map["cfrg"])
beside = arguments.model.with_suffix(".policy.json")  # change thresholds there
if not beside.exists():
    sys.exit("The model has no thresholds: run `cfrg calibrate`, then export it again.")
policy = json.loads(beside.read_text(encoding="utf-8"))
policy = policy["categories"].get(arguments.category, policy)

for path in arguments.images:
    image = Image.open(path).convert("RGB")
    size = image.size
    if known["input_size"]:  # an image of that size stays as it is
        height, width = known["input_size"]
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    maps, scores = session.run(["anomaly_map", "score"], {"image": np.asarray(image)[None]})
    anomaly_map, score = maps[0], float(scores[0])
    print(path, decide(policy, score, anomaly_map, size), score)
