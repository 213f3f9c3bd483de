"""What a device computes beside the CPU, and how fast: one prepared script, results as JSON.

    python tools/bench/device.py --device cuda --out device.json            # a GPU, minutes
    python tools/bench/device.py --device cpu --small --out device.json     # seconds, to try it

Parts, each within what is left of ``--minutes``: the maps of the device against those of the CPU
(float32, TF32, bfloat16, channels-last or not, compiled); images a second of inference and of
training beside the rate of a large matrix product; a training whose loss falls and that a saved
state repeats bit for bit; the evaluator's figures from tensors on the device against those from
the CPU. A part that fails says why, and the others go on.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from step import autocast, measure_limit, synchronize

from cfrg import CFRG, CFRGConfig
from cfrg.devices import find_device
from cfrg.evaluation.complexity import measure_complexity
from threecad.metrics import Evaluator
from threecad.system import atomic
from threecad.system.versions import find_versions

Pairs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="`lite`, few images, few steps")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no part after these")
    parser.add_argument("--out", type=Path, required=True, help="JSON of the results")
    arguments = parser.parse_args()
    device = find_device(arguments.device)
    bench = Bench(device, small=arguments.small)
    results: dict[str, Any] = {"device": describe(device), "versions": find_versions(("torch",))}
    end = time.monotonic() + 60 * arguments.minutes
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "maps": bench.compare_maps,
        "speed": bench.measure_speed,
        "training": bench.train,
        "evaluator": bench.evaluate,
    }
    for name, part in parts.items():
        results[name] = attempt(part) if time.monotonic() < end else {"problem": "no time left"}
        atomic.write_json(arguments.out, results)  # what is done is kept if the rest is cut off
    print(json.dumps(results, indent=2))


class Bench:
    """A network with random weights and what it is measured on.

    Args:
        device: Where to measure.
        small: Sizes that a CPU does in seconds.
    """

    def __init__(self, device: torch.device, *, small: bool) -> None:
        self.device, self.small = device, small
        self.config = CFRGConfig.preset("lite" if small else "paper")
        self.batches = (2,) if small else (16, 64, 128)
        self.steps = 6 if small else 200
        self.repeats = 2 if small else 10

    def compare_maps(self) -> dict[str, Any]:
        """Largest difference to the CPU's float32 maps, as a fraction of their range."""
        model = self._build().eval()
        images = torch.randn(2 if self.small else 8, 3, *self.config.image_size)
        expected = model.predict_maps(images)
        span = float(expected.max() - expected.min())
        model.to(self.device)
        found: dict[str, Any] = {}
        for name, dtype, tf32, layout, compiled in (
            ("float32", "float32", False, torch.channels_last, False),
            ("float32 contiguous", "float32", False, torch.contiguous_format, False),
            ("tf32", "float32", True, torch.channels_last, False),
            ("bfloat16", "bfloat16", False, torch.channels_last, False),
            *([] if self.small else [("compiled", "float32", False, torch.channels_last, True)]),
        ):
            model.to(memory_format=layout)
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
            predict = torch.compile(model.predict_maps) if compiled else model.predict_maps
            with autocast(self.device, dtype), torch.inference_mode():
                maps = predict(images.to(self.device)).float().cpu()
            found[name] = float((maps - expected).abs().max()) / span
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        return found

    def measure_speed(self) -> dict[str, Any]:
        """Images a second, and the share of a matrix product's rate, by batch size and dtype."""
        flops = measure_complexity(self.config, self.config.image_size).total.flops
        found: dict[str, Any] = {}
        for dtype in ("float32", "bfloat16"):
            limit = measure_limit(self.device, dtype, time.perf_counter)
            rows: dict[str, Any] = {"matrix_product_flops": limit}
            for size in self.batches:
                model = self._build().to(self.device)
                clean, defective, mask = self._draw(size)
                folded = copy.deepcopy(model).eval().folded()
                with autocast(self.device, dtype), torch.inference_mode():
                    seconds = self._time(partial(folded.predict_maps, clean))
                step = self._stepper(model, dtype)
                training = self._time(partial(step, (clean, defective, mask)))
                rows[f"batch {size}"] = {
                    "inference_images_per_second": size / seconds,
                    "inference_share_of_limit": flops * size / seconds / limit,
                    "training_images_per_second": size / training,
                }
            found[dtype] = rows
        return found

    def train(self) -> dict[str, Any]:
        """Loss at both ends of a training, and whether a saved state repeats its second half."""
        size = self.batches[0]
        batches = [self._draw(size, seed) for seed in range(2)]
        model = self._build().to(self.device)
        step = self._stepper(model, "float32")
        half, losses = self.steps // 2, []
        kept: tuple[Any, Any] | None = None
        torch.backends.cudnn.deterministic = True
        for i in range(self.steps):
            if i == half:
                states = model.state_dict(), step.optimizer.state_dict()
                kept = copy.deepcopy(states)
            losses.append(self._seeded(step, i, batches))
        assert kept is not None
        other = self._build(seed=1).to(self.device)
        again = self._stepper(other, "float32")
        other.load_state_dict(kept[0])
        again.optimizer.load_state_dict(kept[1])
        resumed = [self._seeded(again, i, batches) for i in range(half, self.steps)]
        torch.backends.cudnn.deterministic = False
        return {
            "steps": self.steps,
            "first_loss": losses[0],
            "last_loss": losses[-1],
            "loss_falls": losses[-1] < losses[0],
            "resume_is_exact": resumed == losses[half:],
        }

    def evaluate(self) -> dict[str, Any]:
        """Figures from tensors on the device against the CPU's, and pixels a second."""
        number, side = (12, 64) if self.small else (400, 512)
        generator = torch.Generator().manual_seed(0)
        maps = torch.rand(number, side, side, generator=generator)
        masks = torch.zeros(number, side, side, dtype=torch.uint8)
        masks[::2, side // 4 : side // 2, side // 4 : side // 2] = 1
        maps[::2] += 0.3 * masks[::2]
        labels = [1 - i % 2 for i in range(number)]
        found = {}
        for name, device in (("cpu", torch.device("cpu")), ("device", self.device)):
            evaluator = Evaluator(breakdowns=False)
            inputs = maps.to(device), masks.to(device)
            scores = inputs[0].flatten(1).amax(1).tolist()
            synchronize(self.device)
            began = time.perf_counter()
            evaluator.update(*inputs, scores, labels)
            result = evaluator.compute().to_dict()
            found[name] = (result, maps.numel() / (time.perf_counter() - began))
        return {
            "figures_equal": found["cpu"][0] == found["device"][0],
            "pixels_per_second": {name: rate for name, (_, rate) in found.items()},
        }

    def _build(self, seed: int = 0) -> CFRG:
        torch.manual_seed(seed)
        return CFRG(self.config)

    def _draw(self, size: int, seed: int = 0) -> Pairs:
        """Clean images, the same with a square of noise on them, and its mask."""
        torch.manual_seed(seed)
        height, width = self.config.image_size
        mask = torch.zeros(size, 1, height, width)
        mask[:, :, height // 4 : height // 2, width // 4 : width // 2] = 1
        clean = torch.randn(size, 3, height, width)
        defective = torch.where(mask > 0, torch.randn_like(clean), clean)
        return clean.to(self.device), defective.to(self.device), mask.to(self.device)

    def _stepper(self, model: CFRG, dtype: str) -> Step:
        return Step(model.train(), dtype, self.device)

    def _seeded(self, step: Step, i: int, batches: list[Pairs]) -> float:
        torch.manual_seed(1000 + i)  # of drop-connect
        return float(step(batches[i % len(batches)]))

    def _time(self, call: Callable[[], object]) -> float:
        """Median seconds of a call, two not counted."""
        seconds = []
        for i in range(-2, self.repeats):
            synchronize(self.device)
            began = time.perf_counter()
            call()
            synchronize(self.device)
            if i >= 0:
                seconds.append(time.perf_counter() - began)
        return sorted(seconds)[len(seconds) // 2]


class Step:
    """An optimiser step on a batch of pairs; returns the loss."""

    def __init__(self, model: CFRG, dtype: str, device: torch.device) -> None:
        self.model, self.dtype, self.device = model, dtype, device
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=5e-4, betas=(0.5, 0.999), fused=True)

    def __call__(self, pairs: Pairs) -> torch.Tensor:
        with autocast(self.device, self.dtype):
            loss = self.model.losses(*pairs)["loss"]
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def attempt(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        found = part()
    except RuntimeError as error:  # out of memory, an operation that the device lacks
        found = {"problem": str(error).splitlines()[0]}
    return {**found, "seconds": round(time.perf_counter() - began, 1)}


def describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


if __name__ == "__main__":
    main()
