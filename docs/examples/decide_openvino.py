"""Decide on images with an exported detector: numpy, Pillow and openvino are all it takes.

Usage: python decide_openvino.py model.xml part.png …
"""

import json
import sys

import numpy as np
import openvino
from PIL import Image

path_of_model, *images = sys.argv[1:]
model = openvino.Core().read_model(path_of_model)
known = json.loads(model.get_rt_info("cfrg").value)
if known["threshold"] is None:
    sys.exit("The model has no threshold: run `cfrg calibrate`, then export it again.")
# Processors with bfloat16 would otherwise compute in it, and the numbers would differ.
compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

for path in images:
    image = Image.open(path).convert("RGB")
    if known["input_size"]:  # an image of that size stays as it is
        height, width = known["input_size"]
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    result = compiled([np.asarray(image)[None]])
    answer = "DEFECT" if result["decision"][0] else "good"
    print(path, answer, float(result["score"][0]))
