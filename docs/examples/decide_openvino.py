"""Decide on images with an exported detector: numpy, Pillow and openvino are all it takes.

With a least area it also takes scipy. Usage: python decide_openvino.py model.xml part.png …
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import openvino
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

model = openvino.Core().read_model(arguments.model)
known = json.loads(model.get_rt_info("cfrg").value)
# Processors with bfloat16 would otherwise compute in it, and the numbers would differ.
compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
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
    result = compiled([np.asarray(image)[None]])
    anomaly_map, score = result["anomaly_map"][0], float(result["score"][0])
    print(path, decide(policy, score, anomaly_map, size), score)
