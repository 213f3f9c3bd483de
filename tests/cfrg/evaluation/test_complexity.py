"""Parameters and computation, part by part, against the published figures and by hand."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from cfrg.cli import main
from cfrg.evaluation.complexity import measure_complexity
from cfrg.network.config import CFRGConfig
from cfrg.network.model import CFRG


def test_paper_network_has_the_published_computation() -> None:
    """24.0 GFLOP for the teacher; 127.8 in all, 0.37 of it for the student's unused end."""
    complexity = measure_complexity(CFRGConfig.preset("paper"))
    parts = {part.name: part for part in complexity.parts}
    assert parts["teacher"].flops / 1e9 == pytest.approx(24.0, abs=0.05)
    assert complexity.total.flops / 1e9 == pytest.approx(127.8 - 0.37, abs=0.05)
    assert parts["teacher"].trained == 0
    assert complexity.total.trained == complexity.total.parameters - parts["teacher"].parameters


def test_every_parameter_is_counted_once() -> None:
    config = CFRGConfig.preset("lite")
    total = measure_complexity(config).total
    parameters = list(CFRG(config).parameters())
    assert total.parameters == sum(p.numel() for p in parameters)
    assert total.trained == sum(p.numel() for p in parameters if p.requires_grad)


def test_computation_is_that_of_the_convolutions() -> None:
    """Counted by hooks on a real forward pass."""
    config = CFRGConfig.preset("lite", image_size=64)
    model = CFRG(config).eval()
    work = 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal work
        places = inputs[0] if isinstance(module, torch.nn.ConvTranspose2d) else output
        work += 2 * module.weight[0].numel() * len(module.weight) * places[0, 0].numel()

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            module.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert measure_complexity(config).total.flops == work


def test_work_grows_with_the_image() -> None:
    config = CFRGConfig.preset("lite")
    small = measure_complexity(config, (128, 128)).total
    wide = measure_complexity(config, (128, 256)).total
    assert wide.flops == pytest.approx(2 * small.flops, rel=0.01)
    assert wide.parameters == small.parameters


def test_command_prints_table_departures_and_json() -> None:
    table = CliRunner().invoke(main, ["info", "--preset", "lite"]).output
    assert "decoder" in table
    assert "departs from the paper" in table
    assert "efficientnet_lite0" in table
    assert "departs" not in CliRunner().invoke(main, ["info"]).output
    output = json.loads(CliRunner().invoke(main, ["info", "--image-size", "512", "--json"]).output)
    assert output["image_size"] == [512, 512]
    assert output["total"]["parameters"] == 130175409
    assert CFRGConfig.from_dict(output["config"]) == CFRGConfig.preset("paper")
