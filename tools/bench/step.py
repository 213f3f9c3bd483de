"""Time of an inference and a training step of CFRG, next to the graph of the authors' code.

    python tools/bench/step.py --batch-size 2 --repeats 5
    python tools/bench/step.py --device cuda --dtype bfloat16 --batch-size 64

The reference's graph is rebuilt from its specification: the teacher runs twice, with autograd
through its parameters; the student's blocks 11 to 15, head and classifier are computed and thrown
away; tensors are laid out N×C×H×W. ``--frozen-teacher`` gives it a teacher without gradients, to
see how much of the difference that is. All graphs alternate in one process, so that a busy
machine slows all; the ratio of their medians is what counts. ``--processor-time --threads 1``
counts processor time instead of elapsed time, for a machine that others use, too. The fraction of
the limit is against a large matrix product in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfrg import CFRG, CFRGConfig
from cfrg.evaluation.complexity import measure_complexity
from cfrg.network.losses import discrepancy_loss, recovery_loss, segmentation_loss
from cfrg.network.processing import smooth_maps
from cfrg.teachers.efficientnet import B0_STAGES, EfficientNet, SameConv2d
from cfrg.teachers.folding import fold_batch_norms


class WholeStudent(EfficientNet):
    """EfficientNet-B0 to its end; the features are still those of blocks 2, 4 and 10."""

    def __init__(self) -> None:
        super().__init__(B0_STAGES, (2, 4, 15), lite=False)
        self.head = SameConv2d(320, 1280, 1)
        self.head_norm = nn.BatchNorm2d(1280, eps=1e-3, momentum=0.01)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.activation(self.stem_norm(self.stem(x)))
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in (2, 4, 10):
                features.append(x)
        x = self.activation(self.head_norm(self.head(x)))
        self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return features


class ReferenceGraph(nn.Module):
    """What the authors' code computes, in the order and layout in which it does."""

    def __init__(self, *, frozen_teacher: bool) -> None:
        super().__init__()
        parts = CFRG(CFRGConfig.preset("paper")).to(memory_format=torch.contiguous_format)
        self.teacher = parts.teacher.requires_grad_(not frozen_teacher)
        self.student = WholeStudent()
        self.adapters, self.fusion = parts.adapters, parts.fusion
        self.decoder, self.unet = parts.decoder, parts.unet

    def train(self, mode: bool = True) -> ReferenceGraph:
        super().train(mode)
        self.teacher.eval()
        return self

    def detect(
        self, image: Tensor
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], Tensor]:
        teacher = self.teacher(image)
        levels = zip(self.adapters, self.student(image), strict=True)
        student = [adapter(level) for adapter, level in levels]
        recovered = self.decoder(self.fusion(teacher))
        coarse_maps = [distance(t, s) for t, s in zip(teacher, student, strict=True)]
        in_t = [w * t for w, t in zip(coarse_maps, teacher, strict=True)]
        recovery_maps = [distance(t, r) for t, r in zip(teacher, recovered, strict=True)]
        in_s = [w * t for w, t in zip(recovery_maps, in_t, strict=True)]
        return teacher, recovered, coarse_maps, recovery_maps, self.unet(in_s)

    def losses(self, clean: Tensor, defective: Tensor, mask: Tensor) -> dict[str, Tensor]:
        normal = self.teacher(clean)
        _, recovered, coarse_maps, _, logits = self.detect(defective)
        return {
            "loss": segmentation_loss(logits, mask)
            + discrepancy_loss(coarse_maps, mask)
            + recovery_loss(normal, recovered)
        }

    @torch.no_grad()
    def predict(self, image: Tensor) -> tuple[Tensor, Tensor]:
        _, _, _, recovery_maps, logits = self.detect(image)
        anomaly = torch.sigmoid(logits)
        for level in recovery_maps:
            anomaly = anomaly + F.interpolate(
                level, image.shape[-2:], mode="bilinear", align_corners=True
            )
        maps = smooth_maps(anomaly.float(), 4.0)
        return maps, maps.amax((1, 2, 3))


def distance(a: Tensor, b: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(a, b)[:, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of torch, on the CPU")
    parser.add_argument("--frozen-teacher", action="store_true")
    parser.add_argument("--compile", action="store_true", help="torch.compile on our side")
    parser.add_argument("--fused", action="store_true", help="fused optimiser on our side")
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--only", choices=["inference", "training"])
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    ours = CFRG(CFRGConfig.preset("paper")).to(device)
    theirs = ReferenceGraph(frozen_teacher=options.frozen_teacher).to(device)
    size, count = options.image_size, options.batch_size
    clean, defective = (torch.randn(count, 3, size, size, device=device) for _ in range(2))
    mask = (torch.rand(count, 1, size, size, device=device) > 0.9).float()
    clock = time.process_time if options.processor_time else time.perf_counter
    limit = measure_limit(device, options.dtype, clock)
    print(
        f"{device_name(device)}, torch {torch.__version__}, {options.dtype}, batch {count}, "
        f"{size}×{size}, load {os.getloadavg()[0]:.1f}; matrix product {limit / 1e12:.2f} TFLOP/s",
        flush=True,
    )
    work = measure_complexity(ours.config, (size, size))
    teacher = work.parts[0].flops
    # A backward pass costs twice its forward pass; the teacher has two images and no backward.
    training = 2 * teacher + 3 * (work.total.flops - teacher)
    for name, flops, make_step in (
        ("inference", work.total.flops, inference_step),
        ("training", training, training_step),
    ):
        if options.only not in (None, name):
            continue
        steps = {
            "reference": make_step(theirs, clean, defective, mask, options.dtype),
            "cfrg": make_step(ours, clean, defective, mask, options.dtype, options.compile),
        }
        if name == "training" and options.fused:
            steps["fused"] = make_step(ours, clean, defective, mask, options.dtype, fused=True)
        if name == "inference":
            folded = fold_batch_norms(ours)
            steps["folded"] = make_step(folded, clean, defective, mask, options.dtype)
        seconds = alternate(steps, options.repeats, device, clock)
        medians = {which: statistics.median(times) / count for which, times in seconds.items()}
        for which, median in medians.items():
            spread = ", ".join(f"{second / count:.3g}" for second in sorted(seconds[which]))
            print(f"{name:10} {which:10} {1000 * median:9.2f} ms an image   ({spread} s)")
        for which in list(steps)[1:]:
            ratio = medians["reference"] / medians[which]
            share = flops / medians[which] / limit
            print(
                f"{name:10} {which:10} ratio {ratio:.2f}; {1 / medians[which]:.2f} images/s, "
                f"{flops / 1e9:.0f} GFLOP an image, {100 * share:.0f} % of the product's rate",
                flush=True,
            )


def inference_step(
    model: nn.Module, clean: Tensor, _: Tensor, __: Tensor, dtype: str, compiled: bool = False
) -> Callable[[], object]:
    predict = torch.compile(model.predict) if compiled else model.predict

    def step() -> object:
        model.eval()
        with autocast(clean.device, dtype), torch.inference_mode():
            return predict(clean)

    return step


def training_step(
    model: nn.Module,
    clean: Tensor,
    defective: Tensor,
    mask: Tensor,
    dtype: str,
    compiled: bool = False,
    fused: bool = False,
) -> Callable[[], object]:
    losses = torch.compile(model.losses) if compiled else model.losses
    trained = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith("teacher")
    ]
    optimizer = torch.optim.Adam(trained, lr=5e-4, betas=(0.5, 0.999), fused=fused or None)

    def step() -> object:
        model.train()
        with autocast(clean.device, dtype):
            loss = losses(clean, defective, mask)["loss"]
        loss.backward()
        optimizer.step()
        model.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def autocast(device: torch.device, dtype: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16")


def alternate(
    steps: dict[str, Callable[[], object]],
    repeats: int,
    device: torch.device,
    clock: Callable[[], float],
) -> dict[str, list[float]]:
    """Seconds of each step, in turn; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(repeats + 1):
        for name, step in steps.items():
            synchronize(device)
            began = clock()
            step()
            synchronize(device)
            if round_:
                seconds[name].append(clock() - began)
    return seconds


def measure_limit(device: torch.device, dtype: str, clock: Callable[[], float]) -> float:
    """Operations a second of a large matrix product, the best of several."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
    seconds = alternate({"product": lambda: a @ a}, 5, device, clock)["product"]
    return 2 * side**3 / min(seconds)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
