"""Times are measured for what is installed, and said to be missing for the rest."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command_lines import run_line

from cfrg.evaluation import latency
from cfrg.evaluation.latency import STAGES, VARIANTS, Task, measure
from cfrg.evaluation.speed import Benchmark, benchmark_run
from cfrg.network.config import CFRGConfig
from cfrg.network.model import CFRG
from threecad.errors import UsageError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    CFRG(CFRGConfig.preset("lite", image_size=64)).save_pretrained(folder)
    return folder


def test_every_stage_is_timed_in_a_process_of_its_own(
    run: Path, sample_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[Benchmark] = []

    def benchmark(*arguments: Any, **options: Any) -> Benchmark:
        results.append(benchmark_run(*arguments, **options))
        return results[-1]

    monkeypatch.setattr("cfrg.evaluation.speed.benchmark_run", benchmark)
    line = run_line(
        f"cfrg bench {run} --runtime torch --images {sample_tree}"
        " --input-size 80x100 --repetitions 4 --threads 1"
    )
    assert line.exit_code == 0, line.output
    (result,) = results
    (torch_times,) = result.variants
    assert torch_times.problem is None
    assert tuple(torch_times.stages) == STAGES
    for timing in torch_times.stages.values():
        assert 0 < timing.minimum <= timing.p50 <= timing.p95
    assert torch_times.throughput is not None
    assert torch_times.peak_memory is None or torch_times.peak_memory > 1 << 20
    assert result.image_size == (80, 100)
    assert result.network_size == (64, 64)
    assert json.loads(json.dumps(result.to_dict()))["variants"][0]["name"] == "torch"
    assert "torch" in line.stdout


def test_a_missing_runtime_is_listed(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(latency, "find_runtime", lambda runtime: None)
    found = measure(Task("openvino", run, {}, (tmp_path / "a.png",), 1, 1))
    assert found.problem == "openvino is not installed"
    assert not found.stages


def test_an_unknown_variant_is_named(run: Path) -> None:
    with pytest.raises(UsageError, match=r"'tensorflow'.*openvino-int8"):
        benchmark_run(run, variants=["tensorflow"])


def test_measuring_a_runtime_does_not_load_torch() -> None:
    code = "import sys, cfrg.evaluation.latency; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_all_runtimes(run: Path, sample_tree: Path) -> None:
    for package in ("onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    variants = [name for name in VARIANTS if name != "torch-compile"]
    result = benchmark_run(run, variants=variants, images=sample_tree, repetitions=2, threads=1)
    assert [variant.problem for variant in result.variants] == [None] * len(variants)
