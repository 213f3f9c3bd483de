"""The training loop, one for a laptop and for many machines.

Nothing random is kept between steps: pairs are keyed by (seed, epoch, position) and the network's
own draws (drop-connect) by (seed, step, process). So a checkpoint needs no random state, and a
resumed run is the uninterrupted one, bit for bit.
"""

from __future__ import annotations

import signal
import time
from contextlib import closing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from torch import nn
from tqdm import tqdm

from cfrg.defects.on_device import CleanImages, defects_on_device
from cfrg.defects.pairs import NETWORK_STREAM, PairBatches, TrainingPairs, random_stream
from cfrg.devices import find_device
from cfrg.images.workers import STOPPING, explaining_deaths, read_in_workers
from cfrg.network import processing
from cfrg.run_folder import RunFolder
from cfrg.training.averaging import WeightAverage
from cfrg.training.logs import TrainingLog, read_log
from cfrg.training.options import TrainingOptions, learning_rate
from cfrg.training.states import load_training_state, save_training_state
from cfrg.training.validation import BestWeights, validate
from threecad.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cfrg.defects.on_device import DeviceDefects
    from cfrg.network.model import CFRG
    from cfrg.training.validation import Validation

__all__ = ["Interrupted", "TrainingOptions", "fit", "learning_rate", "make_accelerator", "read_log"]


_ONE_SIGNAL = 1.0
"""Seconds within which signals of a kind are one."""


class Interrupted(Exception):  # noqa: N818  (nothing went wrong)
    """Training was asked to stop and has saved its state.

    Attributes:
        step: Steps done.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}; its state is saved")
        self.step = step


def fit(
    model: CFRG,
    pairs: TrainingPairs,
    run: Path,
    options: TrainingOptions,
    *,
    resume: bool = False,
    prepare: Callable[[CFRG], None] | None = None,
    validation: Validation | None = None,
    stop_after: int | None = None,
) -> int:
    """Train ``model`` in place.

    Writes ``RUN/log.jsonl`` and ``RUN/checkpoints/``. SIGINT, SIGTERM and SIGHUP end the run
    after the current step, with its state saved.

    Args:
        model: The network, with its teacher's weights loaded.
        pairs: What to train on.
        run: The run folder.
        options: How to train.
        resume: Go on from the checkpoint in ``run``, if there is one.
        prepare: Called with the model before a first step (not when resumed), for statistics that
            are fitted on good images.
        validation: What the weights are scored on where the options ask for it; on the main process
            alone, which is where the best ones end up.
        stop_after: Stop after so many steps as an interruption would, for tests.

    Returns:
        The number of steps in the whole run.

    Raises:
        Interrupted: If asked to stop.
        ModelError: If the loss is no longer finite, or the checkpoint is of another run.
        UsageError: If the device is not there, or shall draw defects that it cannot.
    """
    accelerator = make_accelerator(options)
    processes = accelerator.num_processes
    total = options.total_steps(len(pairs), processes)
    defects = defects_on_device(
        pairs, accelerator.device, where=options.draw_defects_on, workers=options.workers
    )
    objective = _Objective(model)
    model.to(accelerator.device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained,
        lr=options.learning_rate,
        betas=options.betas,
        weight_decay=options.weight_decay,
        fused=options.fused or None,
    )

    average = WeightAverage(model, options.average) if options.average else None
    best, scaler = BestWeights(), accelerator.scaler
    start = 0
    if resume:
        start = load_training_state(run, model, optimizer, average, best, scaler)
    if start == 0 and prepare is not None:
        prepare(model)
    log = None
    if accelerator.is_main_process:
        folder = RunFolder(run)
        log = TrainingLog(folder.log, start, folder.events if options.tensorboard else None)
    compiled = torch.compile(objective) if options.compile else objective
    step_of, optimizer = accelerator.prepare(compiled, optimizer)
    batches = _batches(pairs, options, start, total, accelerator, defects)

    model.train()
    done, seconds, images = start, 0.0, 0
    with (
        closing(log) if log else nullcontext(),
        _asked_to_stop() as asked,
        explaining_deaths(),
        tqdm(
            total=total,
            initial=start,
            desc="train",
            unit="step",
            disable=not accelerator.is_main_process,
        ) as progress,
    ):
        for step in range(start, total):
            began = time.perf_counter()
            rate = learning_rate(step, total, options)
            for group in optimizer.param_groups:
                group["lr"] = rate
            terms = _step(step_of, optimizer, batches, step, trained, options, accelerator)
            done = step + 1
            if average:
                average.update(model, step)
            seconds += time.perf_counter() - began
            images += options.batch_size * options.accumulate * processes
            if done % options.log_every == 0 or done == total or done == 1:
                values = _mean_over_processes(terms, accelerator)
                _check_finite(values, done)
                speed = images / seconds
                if log:
                    speeds = {"images_per_second": round(speed, 2)}
                    log.write(done, {"learning_rate": rate, **values, **speeds})
                progress.set_postfix({"loss": f"{values['loss']:.3f}", "img/s": f"{speed:.0f}"})
                seconds, images = 0.0, 0
            progress.update()
            if log and validation and _is_due(done, total, options):
                log.write(done, validate(model, average, validation, best, done))
            # A stop must come to all processes at once, or the others would wait for ever.
            stop = _any_process(asked() or done == stop_after, accelerator)
            if done % options.checkpoint_every == 0 or done == total or stop:
                if accelerator.is_main_process:
                    save_training_state(run, model, optimizer, done, average, best, scaler)
                accelerator.wait_for_everyone()
            if stop and done < total:
                raise Interrupted(done)
    if options.select == "best" and best.step:
        best.copy_to(model)
    elif average:
        average.copy_to(model)
    model.eval()
    return total


def _is_due(done: int, total: int, options: TrainingOptions) -> bool:
    """Whether to validate after so many steps."""
    every = options.validate_every
    return bool(every) and (done % every == 0 or done == total)


class _Objective(nn.Module):
    """The losses as a forward pass, which is what distributed wrappers synchronise."""

    def __init__(self, model: CFRG) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        config = self.model.config
        return self.model.losses(
            processing.normalize(batch["clean"], config),
            processing.normalize(batch["defective"], config),
            batch["mask"],
        )


def _step(
    objective: nn.Module,
    optimizer: Any,
    batches: Iterator[dict[str, torch.Tensor]],
    step: int,
    trained: list[nn.Parameter],
    options: TrainingOptions,
    accelerator: Accelerator,
) -> dict[str, torch.Tensor]:
    """Do one optimiser step; return the mean of each loss term over its batches."""
    sums: dict[str, torch.Tensor] = {}
    for part in range(options.accumulate):
        batch = next(batches)
        # Keyed by the slice of the step, not by the process, so that two processes and one
        # process that accumulates two batches draw the same numbers.
        place = part * accelerator.num_processes + accelerator.process_index
        torch.manual_seed(
            int(random_stream(NETWORK_STREAM, options.seed, step, place).integers(1 << 63))
        )
        last = part == options.accumulate - 1
        with _no_sync(objective, accelerator, when=not last), accelerator.autocast():
            terms = objective(batch)
            accelerator.backward(terms["loss"] / options.accumulate)
        for name, value in terms.items():
            sums[name] = sums.get(name, 0) + value.detach() / options.accumulate
    if options.clip:
        accelerator.clip_grad_norm_(trained, options.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return sums


@contextmanager
def _no_sync(objective: nn.Module, accelerator: Accelerator, *, when: bool) -> Iterator[None]:
    """Leave gradients on their process while more batches of the step are to come."""
    if when:
        with accelerator.no_sync(objective):
            yield
    else:
        yield


def make_accelerator(options: TrainingOptions) -> Accelerator:
    """Return what knows the devices and processes of this run.

    Raises:
        UsageError: If the device is not there, or cannot compute in the precision.
    """
    if find_device(options.device).type == "cuda" and ":" in (options.device or ""):
        torch.cuda.set_device(options.device)
    cpu = options.device == "cpu"
    _forget_other_run(options.precision, cpu=cpu)
    if options.precision == "fp16" and PartialState(cpu=cpu).device.type == "cpu":
        # Accelerate would train in float32 without a word.
        raise UsageError("`precision=fp16` needs a GPU. On a CPU use no or bf16.")
    return Accelerator(cpu=cpu, mixed_precision=options.precision)


def _forget_other_run(precision: str, *, cpu: bool) -> None:
    """Let another run follow in this process, which Accelerate's one state for all would refuse."""
    state = AcceleratorState._shared_state
    if state and (state["_mixed_precision"], state["_cpu"]) != (precision, cpu):
        alone = state["num_processes"] == 1
        AcceleratorState._reset_state(reset_partial_state=alone and state["_cpu"] != cpu)


def _batches(
    pairs: TrainingPairs,
    options: TrainingOptions,
    start: int,
    total: int,
    accelerator: Accelerator,
    defects: DeviceDefects | None,
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the batches of this process, step by step, on its device."""
    device = accelerator.device
    sampler = PairBatches(
        length=len(pairs),
        batch_size=options.batch_size,
        seed=options.seed,
        start=start * options.accumulate,
        stop=total * options.accumulate,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    for drawn in read_in_workers(
        pairs if defects is None else CleanImages(pairs),
        options.workers,
        batch_sampler=sampler,
        pin_memory=device.type == "cuda",
    ):
        keys = drawn.pop("key", None)
        batch = {name: value.to(device, non_blocking=True) for name, value in drawn.items()}
        if defects is not None:
            batch["defective"], batch["mask"] = defects(batch["clean"], keys)
        yield batch


def _mean_over_processes(
    terms: dict[str, torch.Tensor], accelerator: Accelerator
) -> dict[str, float]:
    """Return ``loss`` and its terms, ``segmentation_loss`` and so on."""
    return {
        name if name == "loss" else f"{name}_loss": float(accelerator.reduce(value, "mean"))
        for name, value in terms.items()
    }


def _any_process(value: bool, accelerator: Accelerator) -> bool:
    if accelerator.num_processes == 1:
        return value
    flag = torch.tensor(int(value), device=accelerator.device)
    return bool(accelerator.reduce(flag, "sum"))


def _check_finite(values: dict[str, float], step: int) -> None:
    if any(value != value or abs(value) == float("inf") for value in values.values()):
        shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
        raise ModelError(
            f"The loss is no longer a number at step {step} ({shown}). "
            "Use a lower `learning_rate`, `clip=1`, or float32 (`precision=no`)."
        )


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether the process was asked to stop; Ctrl-C again acts at once.

    Launchers and ``timeout`` send one signal twice, to the process and to its group: a second one
    is a person's only when it comes later, and never SIGTERM.
    """
    asked: float | None = None

    def note(number: int, frame: object) -> None:  # noqa: ARG001
        nonlocal asked
        if asked is None:
            asked = time.monotonic()
        elif number == signal.SIGINT and time.monotonic() > asked + _ONE_SIGNAL:
            raise KeyboardInterrupt

    before: dict[int, Any] = {}
    try:
        for kind in STOPPING:
            if kind == signal.SIGINT or signal.getsignal(kind) != signal.SIG_IGN:  # nohup
                before[kind] = signal.signal(kind, note)
    except ValueError:  # not in the main thread: the caller keeps its own handling
        before = {}
    try:
        yield lambda: asked is not None
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
