"""The training loop, one for a laptop and for many machines.

Nothing random is kept between steps: pairs are keyed by (seed, epoch, position) and the network's
own draws (drop-connect) by (seed, step, process). So a checkpoint needs no random state, and a
resumed run is the uninterrupted one, bit for bit.
"""

from __future__ import annotations

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
from cfrg.images.workers import explaining_deaths, read_in_workers
from cfrg.network import processing
from cfrg.run_folder import RunFolder
from cfrg.training.averaging import WeightAverage
from cfrg.training.logs import TrainingLog, read_log
from cfrg.training.options import TrainingOptions, learning_rate
from cfrg.training.states import load_training_state, save_training_state
from cfrg.training.stopping import asked_to_stop
from cfrg.training.trackers import Tracker
from cfrg.training.validation import BestWeights, validate
from threecad.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cfrg.defects.on_device import DeviceDefects
    from cfrg.network.model import CFRG
    from cfrg.training.validation import Validation

__all__ = ["Interrupted", "TrainingOptions", "fit", "learning_rate", "make_accelerator", "read_log"]


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
    loop = _Loop(model, pairs, run, options, validation)
    loop.begin(resume=resume, prepare=prepare)
    loop.go(stop_after)
    loop.choose_weights()
    return loop.total


class _Loop:
    """A training under way: its state, and what is done to it step by step.

    Attributes:
        total: Steps in the whole run.
        done: Steps done.
        log: Where the main process, and no other, says how it goes.
    """

    def __init__(
        self,
        model: CFRG,
        pairs: TrainingPairs,
        run: Path,
        options: TrainingOptions,
        validation: Validation | None,
    ) -> None:
        self.model, self.pairs, self.run, self.options = model, pairs, run, options
        self.accelerator = make_accelerator(options)
        self.is_main = self.accelerator.is_main_process
        self.validation = validation if self.is_main else None
        self.total = options.total_steps(len(pairs), self.accelerator.num_processes)
        self.defects = defects_on_device(
            pairs, self.accelerator.device, where=options.draw_defects_on, workers=options.workers
        )
        self.objective: nn.Module = _Objective(model)
        model.to(self.accelerator.device)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer: Any = torch.optim.AdamW(
            self.trained,
            lr=options.learning_rate,
            betas=options.betas,
            weight_decay=options.weight_decay,
            fused=options.fused or None,
        )
        self.average = WeightAverage(model, options.average) if options.average else None
        self.best = BestWeights()
        self.log: TrainingLog | None = None
        self.done = 0
        self.seconds, self.images = 0.0, 0  # since the last report

    def begin(self, *, resume: bool, prepare: Callable[[CFRG], None] | None) -> None:
        """Take up the state that was saved, or start from the beginning."""
        if resume:
            self.done = load_training_state(
                self.run,
                self.model,
                self.optimizer,
                self.average,
                self.best,
                self.accelerator.scaler,
            )
        if self.done == 0 and prepare is not None:
            prepare(self.model)
        options = self.options
        if self.is_main:
            folder = RunFolder(self.run)
            events = folder.events if "tensorboard" in options.trackers else None
            name = self.run.name.removeprefix(".").removesuffix(".partial")
            facts = {**self.model.config.to_dict(), **options.to_dict()}
            trackers = [
                Tracker(one, name, facts) for one in options.trackers if one != "tensorboard"
            ]
            self.log = TrainingLog(folder.log, self.done, events, trackers)
        compiled = torch.compile(self.objective) if options.compile else self.objective
        self.objective, self.optimizer = self.accelerator.prepare(compiled, self.optimizer)
        self.batches = _batches(
            self.pairs, options, self.done, self.total, self.accelerator, self.defects
        )
        self.model.train()

    def go(self, stop_after: int | None) -> None:
        """Do all steps that are left.

        Raises:
            Interrupted: If asked to stop, with the state saved.
        """
        with (
            closing(self.log) if self.log else nullcontext(),
            asked_to_stop() as asked,
            explaining_deaths(),
            tqdm(
                total=self.total,
                initial=self.done,
                desc="train",
                unit="step",
                disable=not self.is_main,
            ) as progress,
        ):
            while self.done < self.total:
                terms = self.step()
                if self.is_due(self.options.log_every) or self.done == 1:
                    progress.set_postfix(self.report(terms))
                progress.update()
                if self.validation and self.is_due(self.options.validate_every):
                    self.validate(self.validation)
                # A stop must come to all processes at once, or the others would wait for ever.
                stop = _any_process(asked() or self.done == stop_after, self.accelerator)
                if stop or self.is_due(self.options.checkpoint_every):
                    self.save()
                if stop and self.done < self.total:
                    raise Interrupted(self.done)

    def is_due(self, every: int) -> bool:
        """Whether what is done every so many steps, if at all, and after the last, is due."""
        return bool(every) and (self.done % every == 0 or self.done == self.total)

    def step(self) -> dict[str, torch.Tensor]:
        """Do one optimiser step; return the mean of each loss term over its batches."""
        began = time.perf_counter()
        options, accelerator = self.options, self.accelerator
        rate = learning_rate(self.done, self.total, options)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        sums: dict[str, torch.Tensor] = {}
        for part in range(options.accumulate):
            batch = next(self.batches)
            # Keyed by the slice of the step, not by the process, so that two processes and one
            # process that accumulates two batches draw the same numbers.
            place = part * accelerator.num_processes + accelerator.process_index
            stream = random_stream(NETWORK_STREAM, options.seed, self.done, place)
            torch.manual_seed(int(stream.integers(1 << 63)))
            last = part == options.accumulate - 1
            with _no_sync(self.objective, accelerator, when=not last), accelerator.autocast():
                terms = self.objective(batch)
                accelerator.backward(terms["loss"] / options.accumulate)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach() / options.accumulate
        if options.clip:
            accelerator.clip_grad_norm_(self.trained, options.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.model, self.done)
        self.done += 1
        self.seconds += time.perf_counter() - began
        self.images += options.batch_size * options.accumulate * accelerator.num_processes
        return sums

    def report(self, terms: dict[str, torch.Tensor]) -> dict[str, str]:
        """Log the losses and the speed since the last report; return both for the progress bar."""
        values = _mean_over_processes(terms, self.accelerator)
        _check_finite(values, self.done)
        speed = self.images / self.seconds
        if self.log:
            rate = learning_rate(self.done - 1, self.total, self.options)
            speeds = {"images_per_second": round(speed, 2)}
            self.log.write(self.done, {"learning_rate": rate, **values, **speeds})
        self.seconds, self.images = 0.0, 0
        return {"loss": f"{values['loss']:.3f}", "img/s": f"{speed:.0f}"}

    def validate(self, validation: Validation) -> None:
        """Score the weights on held-out images, and keep them if they are the best."""
        figures = validate(self.model, self.average, validation, self.best, self.done)
        if self.log:
            self.log.write(self.done, figures)

    def save(self) -> None:
        """Have the main process write the state, and the others wait for it."""
        if self.is_main:
            scaler = self.accelerator.scaler
            save_training_state(
                self.run, self.model, self.optimizer, self.done, self.average, self.best, scaler
            )
        self.accelerator.wait_for_everyone()

    def choose_weights(self) -> None:
        """Leave the model with the weights that the options ask for, in evaluation mode."""
        if self.options.select == "best" and self.best.step:
            self.best.copy_to(self.model)
        elif self.average:
            self.average.copy_to(self.model)
        self.model.eval()


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
