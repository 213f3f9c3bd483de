"""Time ``threecad.load_dataset`` on a tree with as many files as 3CAD.

    python tools/bench/load_dataset.py [--rounds N]

The tree has 3CAD's published number of images and masks, all of them hard links to one small image
and one small mask. Each call is a fresh process; the time is that of the call, without imports.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from threecad.dataset.catalog import CATEGORIES

CALLS = {
    "first call": "{}",
    "again": "{}",
    "one category, first call": "{'name': 'Copper_Stator'}",
    "one category, again": "{'name': 'Copper_Stator'}",
    "streaming": "{'streaming': True}",
}
PROGRAM = """
import json, sys, time
import datasets, threecad, threecad.hub.builder
datasets.disable_progress_bars()
wall, processor = time.perf_counter(), time.process_time()
data = threecad.load_dataset(data_dir=sys.argv[1], **eval(sys.argv[2]))
wall, processor = time.perf_counter() - wall, time.process_time() - processor
rows = sum(part.num_rows for part in data.values()) if hasattr(data, "num_rows") else None
print(json.dumps({"seconds": round(wall, 2), "cpu_seconds": round(processor, 2), "rows": rows}))
"""


def write_tree(root: Path) -> None:
    image, mask = root.parent / "image.png", root.parent / "mask.png"
    cv2.imwrite(str(image), np.full((64, 64, 3), 90, np.uint8))
    cv2.imwrite(str(mask), np.pad(np.full((8, 8), 255, np.uint8), 28))
    for category in CATEGORIES.values():
        link_all(image, root / category.name / "train/good", category.train)
        link_all(image, root / category.name / "test/good", category.test_good)
        types = max(1, category.defect_types)
        for number in range(types):
            count = category.test_defective // types + (number < category.test_defective % types)
            link_all(image, root / category.name / f"test/Defect_{number}", count)
            link_all(mask, root / category.name / f"ground_truth/Defect_{number}", count)


def link_all(source: Path, folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        os.link(source, folder / f"{number:06d}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="threecad-bench-") as folder:
        root = Path(folder, "3cad")
        write_tree(root)
        for number in range(options.rounds):
            environment = {**os.environ, "HF_DATASETS_CACHE": str(Path(folder, f"cache-{number}"))}
            for name, arguments in CALLS.items():
                done = subprocess.run(
                    [sys.executable, "-c", PROGRAM, str(root), arguments],
                    env=environment,
                    check=True,
                    capture_output=True,
                    text=True,
                )
                result = json.loads(done.stdout.splitlines()[-1])
                print(json.dumps({"call": name, **result, "load": round(os.getloadavg()[0], 1)}))


if __name__ == "__main__":
    main()
