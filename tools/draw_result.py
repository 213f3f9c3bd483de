"""Draw docs/images/result.png: what a trained and calibrated run says of test images.

threecad sample 3cad --per-category 40 --category Aluminum_Ipad
cfrg train 3cad --category Aluminum_Ipad --out run
cfrg calibrate run 3cad --on test-good --false-alarm-rate 0.1
python tools/draw_result.py run 3cad [OUT.png]
"""

from __future__ import annotations

import sys
from itertools import zip_longest
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cfrg import Predictor
from cfrg.inference.overlays import draw_overlay
from cfrg.inference.regions import without_small
from threecad import read_mask, scan
from threecad.dataset.samples import GOOD, Sample
from threecad.images.files import read_image
from threecad.pages.figures import figure_bytes, outline, styled

COLUMNS = 5
DEFAULT = Path(__file__).parent.parent / "docs" / "images" / "result.png"


def choose(samples: list[Sample]) -> list[Sample]:
    """Return images of as many defect types as there are, and a good one last."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.defect_type, []).append(sample)
    good = groups.pop(GOOD)
    turns = zip_longest(*groups.values())
    return [s for turn in turns for s in turn if s is not None][: COLUMNS - 1] + good[:1]


def draw(run: str, root: str) -> Figure:
    predictor = Predictor.from_pretrained(run, device="cpu")
    policy, category = predictor.policy, predictor.category
    if policy.pixel_threshold is None or category is None:
        sys.exit(f"{run} is not calibrated: run `cfrg calibrate` first.")
    chosen = choose(list(scan(root, categories=[category]).select(split="test")))
    found = predictor.predict(sample.image for sample in chosen)
    with styled({"axes.grid": False}):
        figure = Figure(figsize=(1.5 * COLUMNS, 3.9), layout="constrained")
        axes = figure.subplots(2, COLUMNS)
        for above, below, sample, prediction in zip(*axes, chosen, found, strict=True):
            picture = read_image(sample.image)
            mask = read_mask(sample.mask) if sample.mask else np.zeros(picture.shape[:2], bool)
            above.imshow(outline(picture, mask))
            above.set_title(sample.defect_type, fontsize=9)
            counted = without_small(
                prediction.map, prediction.size, policy.pixel_threshold, policy.least_area
            )
            below.imshow(draw_overlay(picture, counted, policy.pixel_threshold))
            below.set_xlabel(f"{prediction.decision}, {prediction.score:.1f}", fontsize=9)
        axes[0][0].set_ylabel("image, defect outlined")
        axes[1][0].set_ylabel("the detector's map")
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    return figure


if __name__ == "__main__":
    run, root, *out = sys.argv[1:]
    path = Path(out[0]) if out else DEFAULT
    path.write_bytes(figure_bytes(draw(run, root), format="png"))
    print(path)
