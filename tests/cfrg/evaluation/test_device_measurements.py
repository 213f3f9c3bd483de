"""The script that measures a device, on the CPU in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "bench" / "device.py"


@pytest.mark.slow
def test_every_part_has_its_results(tmp_path: Path) -> None:
    out = tmp_path / "device.json"
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    results = json.loads(out.read_text())
    assert not any("problem" in part for part in results.values() if isinstance(part, dict))
    assert results["maps"]["float32"] < 1e-4  # the same device
    assert results["maps"]["bfloat16"] > results["maps"]["float32"]
    assert results["training"]["loss_falls"]
    assert results["training"]["resume_is_exact"]
    assert results["evaluator"]["figures_equal"]
    assert results["speed"]["float32"]["batch 2"]["training_images_per_second"] > 0


@pytest.mark.slow
def test_parts_for_which_no_time_is_left_are_named(tmp_path: Path) -> None:
    out = tmp_path / "device.json"
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", "--out", str(out)]
    subprocess.run([*command, "--minutes", "0"], check=True, capture_output=True)
    assert json.loads(out.read_text())["maps"] == {"problem": "no time left"}
