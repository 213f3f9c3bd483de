"""Decide on images with an exported detector: numpy, Pillow and onnxruntime are all it takes.

Usage: python decide_onnxruntime.py model.onnx part.png …
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

model, *images = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
known = json.loads(session.get_modelmeta().custom_metadata_map["cfrg"])
if known["threshold"] is None:
    sys.exit("The model has no threshold: run `cfrg calibrate`, then export it again.")

for path in images:
    image = Image.open(path).convert("RGB")
    if known["input_size"]:  # an image of that size stays as it is
        height, width = known["input_size"]
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    anomaly_map, score, decision = session.run(None, {"image": np.asarray(image)[None]})
    print(path, "DEFECT" if decision[0] else "good", float(score[0]))
