"""How big a CFRG network is and how much it computes, part by part."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from cfrg.memory.neighbours import NearestNeighbourMemory
from cfrg.network.model import CFRG

if TYPE_CHECKING:
    from cfrg.network.config import CFRGConfig

__all__ = ["Complexity", "Part", "measure_complexity"]

PARTS = ("teacher", "student", "adapters", "fusion", "decoder", "unet")


@dataclass(frozen=True)
class Part:
    """One part of the network.

    Attributes:
        name: ``teacher``, ``student``, ``adapters``, ``fusion``, ``decoder`` or ``unet``; of a
            memory ``teacher`` or ``memory``.
        parameters: Weights and biases, frozen ones too, and what a memory keeps; other buffers do
            not count.
        trained: Those that training changes.
        flops: Floating-point operations of one image's forward pass, convolutions, a transformer's
            matrix products and a memory's look-up only, a multiplication and an addition counting
            as two.
    """

    name: str
    parameters: int
    trained: int
    flops: int


@dataclass(frozen=True)
class Complexity:
    """The parts of a network, and the image size ``(height, width)`` their work was counted at."""

    config: CFRGConfig
    image_size: tuple[int, int]
    parts: tuple[Part, ...]

    @property
    def total(self) -> Part:
        """All parts together."""
        return Part(
            name="total",
            parameters=sum(part.parameters for part in self.parts),
            trained=sum(part.trained for part in self.parts),
            flops=sum(part.flops for part in self.parts),
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-able data."""
        return {
            "config": self.config.to_dict(),
            "image_size": list(self.image_size),
            "parts": [asdict(part) for part in self.parts],
            "total": asdict(self.total),
        }


def measure_complexity(config: CFRGConfig, image_size: tuple[int, int] | None = None) -> Complexity:
    """Count parameters and floating-point operations without computing anything.

    Args:
        config: The network.
        image_size: Height and width of the image; the configuration's by default.
    """
    size = image_size or config.image_size
    if config.is_memory:
        return Complexity(config, size, _measure_memory(config, size))
    with torch.device("meta"):
        model = CFRG(config).eval().to("meta")  # constants, too
        image = torch.empty(1, 3, *size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    work = counter.get_flop_counts()
    parts = []
    for name in PARTS:
        parameters = list(model.get_submodule(name).parameters())
        parts.append(
            Part(
                name=name,
                parameters=sum(p.numel() for p in parameters),
                trained=sum(p.numel() for p in parameters if p.requires_grad),
                flops=sum(
                    sum(operations.values())
                    for module, operations in work.items()
                    # A list of modules is never called itself: count what is in it.
                    if module in (f"CFRG.{name}", *(f"CFRG.{name}.{i}" for i in range(3)))
                    and (module == f"CFRG.{name}" or f"CFRG.{name}" not in work)
                ),
            )
        )
    return Complexity(config, size, tuple(parts))


def _measure_memory(config: CFRGConfig, size: tuple[int, int]) -> tuple[Part, ...]:
    """Teacher and look-up: every place is compared with every vector, channel by channel."""
    config = replace(config, by_place=False)
    with torch.device("meta"):
        memory = NearestNeighbourMemory.blank(config).to("meta")
        image = torch.empty(1, 3, *size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        places = memory(image).distances.numel()
    work = counter.get_flop_counts()["NearestNeighbourMemory.teacher"]
    parameters = sum(p.numel() for p in memory.teacher.parameters())
    vectors = memory.vectors.numel()
    return (
        Part("teacher", parameters, 0, sum(work.values())),
        Part("memory", vectors, 0, 2 * places * vectors),
    )
