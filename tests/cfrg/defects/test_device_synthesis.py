"""Defects drawn a batch at a time are those that data workers draw, image by image."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from small_training import Noise, assert_same, fresh_model, square

from cfrg import CFRG, CFRGConfig, TrainingOptions, fit
from cfrg.defects import on_device as module
from cfrg.defects.on_device import CleanImages, DeviceDefects, defects_on_device
from cfrg.defects.pairs import PairBatches, PairKey, TrainingPairs
from cfrg.defects.switches import Switches
from cfrg.defects.textures import DrawnTextures
from cfrg.training import runs
from cfrg.training.loop import Interrupted
from cfrg.training.recipes import make_defects
from cfrg.training.states import state_path
from threecad.errors import UsageError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
WITH_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA")
SWITCHES = [
    {},
    {"clean_share": 0.4},
    {"fixed_textures": True},
    {"repeat_rotations": True},
    {"clean_share": 0.2, "fixed_textures": True, "repeat_rotations": True},
]


def options(**changes: object) -> TrainingOptions:
    values = {"steps": 4, "batch_size": 3, "device": "cpu", "checkpoint_every": 9, "log_every": 1}
    return TrainingOptions.preset("paper", **{**values, **changes})


def make_pairs(
    height: int = 48, width: int = 40, *, count: int = 12, crop: tuple[int, int] | None = None,
    textures: Path | None = None, **changes: object,
) -> TrainingPairs:  # fmt: skip
    rng = np.random.default_rng(7)
    images = list(rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8))
    return TrainingPairs(
        images, make_defects(options(**changes), images, textures), seed=5, crop=crop
    )


def draw_both(
    pairs: TrainingPairs, keys: list[PairKey], device: torch.device = CPU
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The batch of the data workers, and that of the device."""
    ones = [pairs[key] for key in keys]
    expected = {name: torch.stack([pair[name] for pair in ones]) for name in ones[0]}
    views = [CleanImages(pairs)[key] for key in keys]
    clean, key = (torch.stack([view[name] for view in views]) for name in ("clean", "key"))
    defective, mask = DeviceDefects(pairs, device)(clean.to(device), key)
    assert defective.device.type == mask.device.type == device.type
    return expected, {"clean": clean, "defective": defective.cpu(), "mask": mask.cpu()}


def assert_equal_up_to_rounding(
    drawn: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], *, share: float = 1e-3
) -> None:
    for name, value in expected.items():
        assert (drawn[name].shape, drawn[name].dtype) == (value.shape, value.dtype), name
    assert torch.equal(drawn["clean"], expected["clean"])
    differs = drawn["mask"] != expected["mask"]
    assert differs.float().mean() <= share
    levels = (drawn["defective"].int() - expected["defective"].int()).abs()
    assert levels[~differs.expand_as(levels)].max() <= 1


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda value: "+".join(value) or "paper")
@pytest.mark.parametrize("size", [(48, 40), (33, 128)])
@pytest.mark.parametrize("device", [CPU, pytest.param(CUDA, marks=WITH_CUDA)], ids=str)
def test_pairs_are_those_of_the_workers(
    device: torch.device, size: tuple[int, int], switches: dict[str, object]
) -> None:
    pairs = make_pairs(*size, **switches)
    keys = [PairKey(epoch, i, place=(5 * i) % 12) for epoch in range(4) for i in range(12)]
    expected, drawn = draw_both(pairs, keys, device)
    assert_equal_up_to_rounding(drawn, expected)
    with_defect = expected["mask"].flatten(1).any(1)
    assert torch.equal(drawn["mask"].flatten(1).any(1), with_defect)
    assert bool(with_defect.all()) == ("clean_share" not in switches)
    clean = ~with_defect
    assert torch.equal(drawn["defective"][clean], drawn["clean"][clean])


@given(seed=st.integers(0, 2**31), height=st.integers(24, 90), width=st.integers(24, 90))
@settings(max_examples=20, deadline=None)
def test_any_seed_and_size(seed: int, height: int, width: int) -> None:
    pairs = make_pairs(height, width, count=4)
    pairs.seed = seed
    expected, drawn = draw_both(pairs, [PairKey(epoch, i) for epoch in (0, 9) for i in range(4)])
    # A single pixel may decide that a mask is empty; then one of the eight is another one.
    agree = (drawn["mask"] == expected["mask"]).float().mean((1, 2, 3))
    assert (agree < 0.98).sum() <= 1
    kept = agree >= 0.98
    assert_equal_up_to_rounding(
        {name: value[kept] for name, value in drawn.items()},
        {name: value[kept] for name, value in expected.items()},
        share=5e-3,
    )
    assert drawn["mask"].flatten(1).any(1).all()


def test_empty_masks_are_drawn_again_for_those_images_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds: list[int] = []
    draw = DeviceDefects._perlin_masks

    def counted(self, streams, keys, shape):  # type: ignore[no-untyped-def]
        rounds.append(len(streams))
        return draw(self, streams, keys, shape)

    monkeypatch.setattr(DeviceDefects, "_perlin_masks", counted)
    pairs = make_pairs(count=100)
    expected, drawn = draw_both(pairs, [PairKey(0, i) for i in range(100)])
    assert rounds[0] == 100
    assert 0 < sum(rounds[1:]) < 40
    assert_equal_up_to_rounding(drawn, expected)


def test_a_pair_does_not_hang_on_its_batch() -> None:
    pairs = make_pairs()
    defects, views = DeviceDefects(pairs, CPU), CleanImages(pairs)
    keys = [PairKey(2, i) for i in range(12)]
    clean = torch.stack([views[key]["clean"] for key in keys])
    whole = defects(clean, torch.tensor(keys))
    for i, key in enumerate(keys):
        alone = defects(clean[i : i + 1], torch.tensor([key]))
        for batched, single in zip(whole, alone, strict=True):
            assert torch.equal(batched[i : i + 1], single)


def test_crops_and_textures_of_a_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, size in enumerate([(300, 400), (20, 30), (48, 40)]):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    pairs = make_pairs(80, 90, crop=(40, 64), textures=tmp_path)
    expected, drawn = draw_both(pairs, [PairKey(3, i) for i in range(12)])
    assert drawn["clean"].shape == (12, 3, 40, 64)
    assert_equal_up_to_rounding(drawn, expected)
    read = DeviceDefects(pairs, CPU, workers=1).textures
    assert torch.equal(read, DeviceDefects(pairs, CPU).textures)
    assert (read.shape, read.dtype) == ((3, 3, 40, 64), torch.uint8)


def test_where_defects_are_drawn() -> None:
    def chosen(device: torch.device, pairs: TrainingPairs | None = None, **changes: object) -> bool:
        found = defects_on_device(
            pairs or make_pairs(**changes), device, where=options(**changes).draw_defects_on
        )
        return found is not None

    class Recorder(DeviceDefects):
        def __init__(self, *arguments: object, **named: object) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DeviceDefects", Recorder)  # this machine may have no CUDA
        assert not chosen(CPU)
        assert chosen(CUDA)
        assert chosen(CPU, draw_defects_on="device")
        assert not chosen(CUDA, draw_defects_on="workers")
        assert chosen(CUDA, clean_share=0.5, fixed_textures=True, repeat_rotations=True)
        assert not chosen(CUDA, synthesis="varied")
        assert not chosen(CUDA, structural=True)
        assert not chosen(CUDA, TrainingPairs(Noise(), square, seed=0))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"synthesis": "varied"}, "only the recipe of the paper"),
        ({"structural": True}, "structural is not drawn there"),
        ({"several_scales": True}, "several_scales is not drawn there"),
        ({"augment_textures": True}, "augment_textures is not drawn there"),
    ],
)
def test_what_the_device_cannot_draw_is_refused(changes: dict[str, object], reason: str) -> None:
    given = options(draw_defects_on="device", **changes)
    with pytest.raises(UsageError, match=reason):
        defects_on_device(make_pairs(**changes), CPU, where=given.draw_defects_on)


def test_parts_and_too_many_textures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given, pairs = options(draw_defects_on="device"), make_pairs()
    pairs.parts = [np.ones((48, 40), np.uint8)] * 12
    with pytest.raises(UsageError, match="foreground is not drawn there"):
        defects_on_device(pairs, CPU, where=given.draw_defects_on)
    pairs.parts = None
    size = len(DrawnTextures()) * 3 * 48 * 40
    monkeypatch.setattr(module, "LARGEST_STACK", size - 1)
    with pytest.raises(UsageError, match="64 textures of 48 × 40 pixels take"):
        defects_on_device(pairs, CPU, where=given.draw_defects_on)
    assert defects_on_device(pairs, CUDA) is None
    monkeypatch.setattr(module, "LARGEST_STACK", size)
    assert defects_on_device(pairs, CPU, where=given.draw_defects_on)


def train(run: Path, *, resume: bool = False, stop_after: int | None = None, **changes) -> CFRG:
    model = fresh_model()
    pairs = make_pairs(32, 32, **changes)
    given = options(**{"draw_defects_on": "device", **changes})
    fit(model, pairs, run, given, resume=resume, stop_after=stop_after)
    return model


def test_training_is_reproducible_for_any_number_of_workers(tmp_path: Path) -> None:
    first = train(tmp_path / "a", accumulate=2)
    assert_same(first, train(tmp_path / "b", accumulate=2, workers=2))


def test_resume_is_bit_equal_to_never_having_stopped(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    for stop in (1, 3):
        with pytest.raises(Interrupted):
            train(tmp_path / "parts", resume=True, stop_after=stop)
    assert_same(whole, train(tmp_path / "parts", resume=True))


_SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path[:0] = {folders!r}
torch.set_num_threads(1)
import test_device_synthesis
changes = {{"steps": 400, "checkpoint_every": 2, "stop_after": int(sys.argv[2]) or None}}
test_device_synthesis.train(Path(sys.argv[1]), resume=True, **changes)
"""


@pytest.mark.slow
def test_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    def start(run: Path, stop: int = 0) -> subprocess.Popen[bytes]:
        script = _SCRIPT.format(
            folders=[str(Path(__file__).parent), str(Path(__file__).parents[2])]
        )
        line = [sys.executable, "-c", script, str(run), str(stop)]
        return subprocess.Popen(line, stderr=subprocess.DEVNULL)

    def state(run: Path) -> tuple[int, dict[str, torch.Tensor]]:
        with safe_open(state_path(run), framework="pt") as file:
            step = json.loads(file.metadata()["training"])["step"]
            return step, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start(killed)
    deadline = time.monotonic() + 900
    while not state_path(killed).is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait(300)
    done, _ = state(killed)
    for run in (killed, whole):
        start(run, done + 2).wait(900)
    (step, resumed), (same_step, uninterrupted) = state(killed), state(whole)
    assert step == same_step == done + 2
    for name, value in uninterrupted.items():
        assert torch.equal(value, resumed[name]), name


def test_workers_deliver_good_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a pair was drawn image by image")

    monkeypatch.setattr(TrainingPairs, "__getitem__", refuse)
    train(tmp_path / "device", steps=1)
    with pytest.raises(AssertionError, match="image by image"):
        train(tmp_path / "workers", steps=1, draw_defects_on="workers")


def test_two_processes_draw_what_one_draws_in_turn() -> None:
    pairs = make_pairs()
    defects, views = DeviceDefects(pairs, CPU), CleanImages(pairs)

    def draw(**division: int) -> list[torch.Tensor]:
        batches = PairBatches(length=12, batch_size=4, seed=1, start=0, **division)
        clean = [torch.stack([views[key]["clean"] for key in batch]) for batch in batches]
        return [
            torch.cat([value.flatten() for value in defects(images, torch.tensor(batch))])
            for images, batch in zip(clean, batches, strict=True)
        ]

    alone = draw(stop=6)
    for rank in (0, 1):
        for turn, batch in enumerate(draw(stop=3, rank=rank, processes=2)):
            assert torch.equal(batch, alone[2 * turn + rank])


def test_a_run_on_crops_resumes_wherever_its_defects_are_drawn(
    sample_tree: Path, tmp_path: Path
) -> None:
    config = CFRGConfig.preset("lite", image_size=32, tile=32, tile_overlap=8)
    for place, resume in (("device", False), ("workers", True)):
        runs.train(
            sample_tree,
            tmp_path / "run",
            category="Copper_Stator",
            config=config,
            options=options(steps=1, batch_size=2, draw_defects_on=place),
            resume=resume,
        )
    assert runs.read_run(tmp_path / "run")["options"]["draw_defects_on"] == "device"
    assert CFRG.from_pretrained(tmp_path / "run").config == config


def test_switches_are_all_known_here() -> None:
    """A new switch of the synthesis has to be drawn on the device, too, or refused."""
    drawn = {"clean_share", "fixed_textures", "repeat_rotations"}
    without_effect = {"smallest_defect"}  # on Perlin masks
    known = drawn | without_effect | set(module.OTHER_SWITCHES)
    assert known == set(Switches.__dataclass_fields__)
