"""Folded networks compute the same maps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cfrg.network.config import CFRGConfig
from cfrg.network.model import CFRG
from cfrg.teachers.folding import fold_batch_norms


@pytest.mark.parametrize("options", [{}, {"student": "efficientnet_b0"}], ids=str)
@torch.no_grad()
def test_same_maps_without_batch_norms(options: dict[str, str]) -> None:
    torch.manual_seed(0)
    model = CFRG(CFRGConfig.preset("lite", **options))
    model.load_teacher()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight.requires_grad:
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    folded = model.folded()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert model.training
    image = torch.randn(2, 3, 64, 96)
    for ours, theirs in zip(folded.predict(image), model.predict(image), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_wide_resnet_and_paper_shapes_fold_too() -> None:
    torch.manual_seed(0)
    config = CFRGConfig(fusion_width=64, fusion_channels=64, unet_channels=(16, 16, 8, 8))
    model = CFRG(config).eval()
    image = torch.randn(1, 3, 64, 64)
    folded = fold_batch_norms(model)
    torch.testing.assert_close(folded.predict(image)[0], model.predict(image)[0], atol=2e-5, rtol=0)
