"""The training loop: reproducible, resumable, distributed, honest about trouble."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from small_training import (
    CONFIG,
    VALIDATED,
    Noise,
    assert_same,
    fresh_model,
    held_out,
    options,
    square,
    train,
    weights,
)

from cfrg import CFRG, CFRGConfig, TrainingOptions
from cfrg.defects.pairs import PairKey, TrainingPairs
from cfrg.training.averaging import WeightAverage
from cfrg.training.loop import Interrupted, learning_rate, make_accelerator, read_log
from cfrg.training.states import load_training_state, save_training_state, state_path
from cfrg.training.validation import BestWeights, Validation, validate
from threecad.errors import ModelError, UsageError


def test_training_changes_what_is_trained_and_not_the_teacher(tmp_path: Path) -> None:
    before, after = weights(fresh_model()), weights(train(tmp_path))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in changed if name.startswith("teacher.")]
    parts = {"student", "adapters", "fusion", "decoder", "unet"}
    assert {name.split(".")[0] for name in changed} >= parts


def test_loss_falls(tmp_path: Path) -> None:
    train(tmp_path, steps=25, learning_rate=2e-3, checkpoint_every=25)
    losses = [line["loss"] for line in read_log(tmp_path / "log.jsonl")]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_same_seed_same_weights_for_any_number_of_workers(tmp_path: Path) -> None:
    assert_same(train(tmp_path / "a"), train(tmp_path / "b", workers=2))


def test_resume_is_bit_equal_to_never_having_stopped(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    for stop in (1, 3):
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", resume=True, stop_after=stop)
    assert_same(whole, train(tmp_path / "parts", resume=True))
    steps = [line["step"] for line in read_log(tmp_path / "parts" / "log.jsonl")]
    assert steps == [1, 2, 3, 4]


_SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import small_training
small_training.train(Path(sys.argv[1]), resume=True, steps=400, checkpoint_every=2, **{changes!r})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and SIGINT")
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        pytest.param("SIGKILL", {}, id="killed"),
        pytest.param("SIGINT", {}, id="interrupted"),
        pytest.param("SIGKILL", VALIDATED, id="killed while validating", marks=pytest.mark.slow),
    ],
)
def test_killed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, kind: str, changes: dict[str, object]
) -> None:
    script = _SCRIPT.format(tests=str(Path(__file__).parents[2]), changes=changes)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "killed")],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 300
    while not state_path(tmp_path / "killed").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.Signals[kind])
    process.wait(300)
    assert state_path(tmp_path / "killed").is_file()
    model = fresh_model()
    done = load_training_state(tmp_path / "killed", model, torch.optim.Adam(_trained(model)))
    assert 0 < done < 400
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # The schedule belongs to the whole run, so both have to be stopped at the same step.
        with pytest.raises(Interrupted):
            train(tmp_path / "killed", resume=True, steps=400, stop_after=done + 2, **changes)
        with pytest.raises(Interrupted):
            train(tmp_path / "whole", resume=True, steps=400, stop_after=done + 2, **changes)
    finally:
        torch.set_num_threads(threads)
    killed, whole = fresh_model(), fresh_model()
    states = []
    for name, model in (("killed", killed), ("whole", whole)):
        optimizer, average, best = torch.optim.Adam(_trained(model)), None, BestWeights()
        if changes:
            average = WeightAverage(model, 0.9)
        load_training_state(tmp_path / name, model, optimizer, average, best)
        states.append((best, average, validations(tmp_path / name)))
    assert_same(killed, whole)
    (best, average, lines), (other_best, other_average, other_lines) = states
    assert lines == other_lines
    assert (best.step, best.score) == (other_best.step, other_best.score)
    assert bool(best.values) == bool(changes)
    for name, value in best.values.items():
        assert torch.equal(value, other_best.values[name])
    if average and other_average:
        for name, value in average.values.items():
            assert torch.equal(value, other_average.values[name])


def validations(run: Path) -> list[dict[str, float]]:
    return [line for line in read_log(run / "log.jsonl") if "validation_pixel_ap" in line]


def _trained(model: CFRG) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def test_average_is_kept_and_resumed(tmp_path: Path) -> None:
    plain, whole = train(tmp_path / "plain", average=0.0), train(tmp_path / "whole", average=0.9)
    name = "unet.up1.conv1.weight"
    assert not torch.equal(weights(plain)[name], weights(whole)[name])
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", average=0.9, stop_after=2)
    assert_same(whole, train(tmp_path / "parts", average=0.9, resume=True))


def test_fused_steps_are_the_same_steps_and_resume(tmp_path: Path) -> None:
    plain, fused = (
        weights(train(tmp_path / str(fused), average=0.0, steps=1, fused=fused))
        for fused in (False, True)
    )  # one step: later ones amplify the rounding
    for name, value in fused.items():
        torch.testing.assert_close(value, plain[name], atol=1e-6, rtol=1e-5, msg=name)
    changes = {"average": 0.0, "steps": 3, "fused": True}
    whole = train(tmp_path / "whole", **changes)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", stop_after=2, **changes)
    assert_same(whole, train(tmp_path / "parts", resume=True, **changes))


def test_average_is_that_of_its_definition() -> None:
    model = torch.nn.Linear(2, 1)
    average = WeightAverage(model, 0.5)
    expected = model.weight.detach().clone()
    for step in range(6):
        with torch.no_grad():
            model.weight += step
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    average.copy_to(model)
    torch.testing.assert_close(model.weight.detach(), expected)


def test_accumulated_batches_are_averaged(tmp_path: Path) -> None:
    train(tmp_path, accumulate=2, steps=2)
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 2]


@pytest.mark.parametrize("total", [3, 4, 5, 7, 12, 25, 50, 1200])
def test_both_drops_of_the_learning_rate_happen_in_a_run_of_any_length(total: int) -> None:
    rates = [learning_rate(step, total, TrainingOptions()) for step in range(total)]
    assert rates[0] == 5e-4
    assert sum(a > b for a, b in pairwise(rates)) == 2
    assert rates[-1] == pytest.approx(5e-4 * 0.04)


def test_drops_are_at_80_and_90_per_cent() -> None:
    rates = [learning_rate(step, 100, TrainingOptions()) for step in range(100)]
    assert [step for step in range(1, 100) if rates[step] < rates[step - 1]] == [80, 90]


def test_cosine_warms_up_and_ends_near_zero() -> None:
    given = TrainingOptions(schedule="cosine", learning_rate=1.0)
    rates = [learning_rate(step, 200, given) for step in range(200)]
    assert rates[0] < 0.2
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[-1] < 0.01


def test_epochs_become_steps() -> None:
    given = TrainingOptions(epochs=3, batch_size=4, accumulate=2)
    assert given.total_steps(100) == 38
    assert given.total_steps(100, processes=2) == 19
    assert TrainingOptions.preset("lite", epochs=2).steps is None
    assert TrainingOptions.preset("lite").steps


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"steps": 0}, {"epochs": 0}])
def test_senseless_options_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"is 0; expected 1 or more"):
        TrainingOptions(**wrong)


def test_unknown_options_get_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 'foreground'"):
        TrainingOptions.preset("lite", foregroud=True)


def test_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="paper, lite"):
        TrainingOptions.preset("huge")


def test_diverged_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lower `learning_rate`"):
        train(tmp_path, learning_rate=1e30, steps=30, clip=0.0, schedule="steps")


def test_scale_of_half_precision_is_resumed(tmp_path: Path) -> None:
    """The scale of the loss halves where gradients overflow and grows again after a while."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())

    def scaler() -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)

    def step(scaler: torch.amp.GradScaler, loss: float) -> float:
        scaler.scale(model(torch.ones(1, 2)).sum() * loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return scaler.get_scale()

    before = scaler()
    assert [step(before, loss) for loss in (1, float("inf"), 1, 1)] == [1024, 512, 512, 512]
    save_training_state(tmp_path, model, optimizer, 4, scaler=before)
    after, fresh = scaler(), scaler()
    assert load_training_state(tmp_path, model, optimizer, scaler=after) == 4
    assert after.state_dict() == before.state_dict()
    assert (step(after, 1), step(fresh, 1)) == (1024, 1024)  # after two good steps, the third
    assert after.state_dict() != fresh.state_dict()
    assert load_training_state(tmp_path, model, optimizer) == 4  # in another precision


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(UsageError, match="needs a GPU"):
        make_accelerator(options(precision="fp16"))


def test_half_precision_is_saved_and_resumed_by_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scalers = []

    def with_scaler(options: TrainingOptions) -> Accelerator:
        accelerator = make_accelerator(options)
        scalers.append(torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=2))
        accelerator.scaler = scalers[-1]
        return accelerator

    monkeypatch.setattr("cfrg.training.loop.make_accelerator", with_scaler)
    whole = train(tmp_path / "whole", steps=5)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", steps=5, stop_after=3)
    assert_same(whole, train(tmp_path / "parts", steps=5, resume=True))
    assert scalers[0].state_dict() == scalers[2].state_dict()
    assert scalers[0].get_scale() == 256  # grown twice: in steps 2 and 4


def test_damaged_and_foreign_states_are_refused(tmp_path: Path) -> None:
    model = fresh_model()
    optimizer = torch.optim.Adam(_trained(model))
    save_training_state(tmp_path, model, optimizer, 7)
    assert load_training_state(tmp_path, model, optimizer) == 7
    other = CFRG(CFRGConfig.preset("lite", image_size=32, unet_channels=(32, 16, 8, 8)))
    with pytest.raises(ModelError, match="belongs to another network"):
        load_training_state(tmp_path, other, torch.optim.Adam(_trained(other)))
    path = state_path(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="is not a training state"):
        load_training_state(tmp_path, model, optimizer)


def test_cut_off_log_line_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert read_log(log) == [{"step": 1}]


def test_no_cuda_is_said(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UsageError, match="no usable CUDA device"):
        train(tmp_path, device="cuda")


def test_validation_leaves_the_training_alone(tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", average=0.9)
    assert_same(plain, train(tmp_path / "seen", **{**VALIDATED, "select": "last"}))
    lines = validations(tmp_path / "seen")
    assert [line["step"] for line in lines] == [2, 4]
    for line in lines:
        assert 0 <= line["validation_image_auroc"] <= 1
        assert 0 < line["validation_pixel_ap"] <= 1
    losses = [line for line in read_log(tmp_path / "seen" / "log.jsonl") if "loss" in line]
    assert [line["step"] for line in losses] == [1, 2, 3, 4]


def test_the_weights_with_the_best_validation_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = iter([0.9, 0.5, 0.7])
    seen = []

    def score(self: Validation, model: CFRG) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in weights(model).items()})
        return {"validation_image_auroc": next(worse), "validation_pixel_ap": 0.5}

    monkeypatch.setattr(Validation, "score", score)
    model = train(tmp_path, **VALIDATED, steps=6)
    kept = weights(model)
    assert all(torch.equal(kept[name], value) for name, value in seen[0].items())
    assert any(not torch.equal(kept[name], value) for name, value in seen[2].items())


def test_resume_keeps_the_best_weights(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", **VALIDATED)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", **VALIDATED, stop_after=3)
    assert_same(whole, train(tmp_path / "parts", **VALIDATED, resume=True))
    assert validations(tmp_path / "whole") == validations(tmp_path / "parts")
    assert_same(whole, train(tmp_path / "parts", **VALIDATED, resume=True))  # nothing left to do


def test_validation_defects_are_drawn_once_and_are_no_training_defects() -> None:
    validation, again = held_out(), held_out()
    training = TrainingPairs(Noise(), square, seed=5)
    for position in range(12):
        pair = validation[position]
        assert pair["mask"].any()
        assert torch.equal(pair["defective"], again[position]["defective"])
        assert not torch.equal(pair["defective"], training[PairKey(0, position)]["defective"])


def test_validation_redraws_what_cannot_be_seen() -> None:
    def often_nothing(image, rng, *_: object):  # type: ignore[no-untyped-def]
        defective, mask = square(image, rng)
        return (image, mask * 0) if rng.random() < 0.7 else (defective, mask)

    pairs = TrainingPairs(Noise(), often_nothing, seed=0)
    assert not all(pairs[PairKey(0, position)]["mask"].any() for position in range(12))
    assert all(Validation(pairs)[position]["mask"].any() for position in range(12))


def test_a_model_that_sees_the_defect_validates_well(monkeypatch: pytest.MonkeyPatch) -> None:
    model, validation = fresh_model(), held_out()
    normal = {
        pair["clean"].numpy().tobytes(): pair for pair in map(validation.__getitem__, range(12))
    }

    def predict(self: CFRG, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, std = (torch.tensor(v)[:, None, None] for v in (CONFIG.mean, CONFIG.std))
        pixels = (image * std + mean).mul(255).round().to(torch.uint8)
        maps = torch.stack(
            [
                torch.zeros(1, 32, 32)
                if one.numpy().tobytes() in normal
                else next(p["mask"] for p in normal.values() if torch.equal(p["defective"], one))
                for one in pixels.contiguous()
            ]
        )
        return maps, maps.amax((1, 2, 3))

    monkeypatch.setattr(CFRG, "predict", predict)
    figures = validate(model, None, validation, best := BestWeights(), 7)
    assert figures == {"validation_image_auroc": 1.0, "validation_pixel_ap": 1.0}
    assert (best.step, best.score) == (7, 1.0)
    assert model.training


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"validate_every": 5}, "set validation_fraction"),
        ({"select": "best"}, "set validate_every"),
        ({"validation_fraction": 1.0}, "expected 0 to below 1"),
        ({"smallest_defect": 0.0}, "expected above 0 pixels"),
    ],
)
def test_options_that_cannot_go_together_are_refused(
    wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        TrainingOptions(**wrong)


def test_tensorboard_gets_what_the_log_gets(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(Interrupted):
        train(tmp_path, tensorboard=True, stop_after=2, **VALIDATED)
    train(tmp_path, tensorboard=True, resume=True, **VALIDATED)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    log = read_log(tmp_path / "log.jsonl")
    names = {name for line in log for name in line if name != "step"}
    assert set(events.Tags()["scalars"]) == names
    for name in names:
        expected = [(line["step"], line[name]) for line in log if name in line]
        seen = [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]
        assert expected == seen


def test_missing_tensorboard_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfrg.training.logs.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        train(tmp_path, tensorboard=True)
