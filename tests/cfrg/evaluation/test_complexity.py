"""Parameters and computation, part by part, against the published figures and by hand."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec

import pytest
import torch
from click.testing import CliRunner

from cfrg.cli import main
from cfrg.evaluation.complexity import measure_complexity
from cfrg.network.config import CFRGConfig
from cfrg.network.model import CFRG
from cfrg.teachers.backbones import TEACHERS, load_teacher


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


@pytest.mark.parametrize("name", ["dinov2_s", "dinov3_s"])
def test_a_transformers_matrix_products_count(name: str) -> None:
    """Blocks of width d on t tokens: 12·d² products a token, and 2·t·d for the attention."""
    pytest.importorskip("timm")
    parts = measure_complexity(CFRGConfig.preset("memory", teacher=name, image_size=448)).parts
    tokens = 1 + 32**2 if name == "dinov2_s" else 5 + 28**2
    patches = tokens - (1 if name == "dinov2_s" else 5)
    patch = 3 * (14 if name == "dinov2_s" else 16) ** 2
    products = 12 * tokens * (12 * 384**2 + 2 * tokens * 384) + patches * patch * 384
    assert parts[0].flops == pytest.approx(2 * products, rel=0.01)
    assert parts[0].parameters == pytest.approx(22e6, rel=0.03)


def test_teachers_are_listed_with_source_licence_and_what_is_known_of_the_file() -> None:
    listed = json.loads(CliRunner().invoke(main, ["info", "--teachers", "--json"]).stdout)
    assert set(listed) == set(TEACHERS)
    text = CliRunner().invoke(main, ["info", "--teachers"]).stdout
    for name, teacher in listed.items():
        for part in (name, teacher["origin"], teacher["licence"], teacher["sha256"] or "not known"):
            assert part in text
    packaged = load_teacher("efficientnet_lite0", TEACHERS["efficientnet_lite0"].build())
    digest = hashlib.sha256(packaged.read_bytes()).hexdigest()
    assert listed["efficientnet_lite0"]["sha256"] == digest
    for name, teacher in listed.items():
        transformer = name.startswith("dino")
        assert transformer == (teacher["extra"] == "vit")
        assert not (transformer and (teacher["measured"] or teacher["sha256"]))
        assert teacher["fetched"] != name.startswith("dinov3")


def test_what_is_not_measured_says_so() -> None:
    assert "not measured" in " ".join(CliRunner().invoke(main, ["train", "--help"]).stdout.split())
    assert "not measured" in " ".join(CliRunner().invoke(main, ["info", "--help"]).stdout.split())
    if find_spec("timm"):
        shown = CliRunner().invoke(main, ["info", "--preset", "dino"]).stdout
        assert "The preset dino is not measured yet" in shown
    assert "not measured" not in CliRunner().invoke(main, ["info"]).stdout.lower()
