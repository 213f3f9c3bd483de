"""Each loss term against a slow, literal transcription of its equation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cfrg.network.losses import discrepancy_loss, recovery_loss, segmentation_loss


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def resize(rows: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Bilinear with half-pixel centres, one output pixel at a time."""

    def source(i: int, size: int, target: int) -> tuple[int, int, float]:
        position = max((i + 0.5) * size / target - 0.5, 0.0)
        low = min(int(position), size - 1)
        return low, min(low + 1, size - 1), position - low

    resized = []
    for y in range(height):
        y0, y1, v = source(y, len(rows), height)
        line = []
        for x in range(width):
            x0, x1, u = source(x, len(rows[0]), width)
            top = (1 - u) * rows[y0][x0] + u * rows[y0][x1]
            line.append((1 - v) * top + v * ((1 - u) * rows[y1][x0] + u * rows[y1][x1]))
        resized.append(line)
    return resized


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def test_discrepancy_is_its_equation(generator: torch.Generator) -> None:
    sizes = [(4, 6), (2, 3), (1, 2)]
    distances = [2 * torch.rand(2, 1, h, w, generator=generator) for h, w in sizes]
    mask = (torch.rand(2, 1, 8, 12, generator=generator) > 0.6).float()
    levels = []
    for level in distances:
        pixels = []
        for n in range(2):
            d = resize(level[n, 0].tolist(), 8, 12)
            for y in range(8):
                for x in range(12):
                    m = mask[n, 0, y, x].item()
                    pixels.append((1 - d[y][x]) * m + d[y][x] * (1 - m))
        levels.append(sum(pixels) / len(pixels))
    expected = sum(levels) / len(levels)
    assert discrepancy_loss(distances, mask).item() == pytest.approx(expected, abs=1e-6)


def test_discrepancy_wants_agreement_off_the_defect_and_disagreement_on_it() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    assert discrepancy_loss([mask], mask).item() == 0
    assert discrepancy_loss([1 - mask], mask).item() == 1


def test_recovery_is_its_equation(generator: torch.Generator) -> None:
    shapes = [(2, 3, 4, 4), (2, 5, 2, 2), (2, 7, 1, 1)]
    teacher = [torch.randn(shape, generator=generator) for shape in shapes]
    recovery = [torch.randn(shape, generator=generator) for shape in shapes]
    expected = 0.0
    for t, r in zip(teacher, recovery, strict=True):
        per_image = [1 - cosine(t[n].flatten().tolist(), r[n].flatten().tolist()) for n in (0, 1)]
        expected += sum(per_image) / 2
    for layout in (torch.contiguous_format, torch.channels_last):
        laid_out = [level.contiguous(memory_format=layout) for level in teacher]
        assert recovery_loss(laid_out, recovery).item() == pytest.approx(expected, abs=1e-5)
    assert recovery_loss(teacher, [3 * t for t in teacher]).item() == pytest.approx(0, abs=1e-5)


def test_segmentation_is_its_equation(generator: torch.Generator) -> None:
    logits = 3 * torch.randn(2, 1, 4, 4, generator=generator)
    mask = (torch.rand(2, 1, 4, 4, generator=generator) > 0.5).float()

    def entropy(logit: float, label: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -label * math.log(p) - (1 - label) * math.log(1 - p)

    pairs = zip(logits.flatten().tolist(), mask.flatten().tolist(), strict=True)
    expected = sum(entropy(logit, label) for logit, label in pairs) / logits.numel()
    assert segmentation_loss(logits, mask).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_recovery_keeps_its_precision_in_half_types(dtype: torch.dtype) -> None:
    """A sum over a million half-precision products would overflow or stall."""
    features: list[Tensor] = [100 * torch.ones(1, 64, 64, 64, dtype=dtype)]
    loss = recovery_loss(features, features)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0, abs=1e-3)
