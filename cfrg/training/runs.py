"""A training run from a tree of images to a run folder.

``RUN`` is itself what ``CFRG.from_pretrained`` reads: ``config.json``, ``model.safetensors``,
``README.md``; beside them ``run.json`` (seed, data fingerprint, category, versions, split),
``trained_on.sha256``, ``log.jsonl``, ``checkpoints/`` and ``figures/``.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cfrg.defects.pairs import DEFECT_STREAM, VALIDATION_STREAM, TrainingPairs, hold_out
from cfrg.images.cache import ImageCache
from cfrg.images.geometry import choose_geometry
from cfrg.images.tiling import Tiling
from cfrg.inference.thresholds import digest_weights
from cfrg.network.model import CFRG
from cfrg.network.pretrained import keep_own_card
from cfrg.run_folder import RECORD, RunFolder
from cfrg.teachers.backbones import find_weights
from cfrg.training.hard_negatives import read_hard_negatives
from cfrg.training.loop import TrainingOptions, fit, make_accelerator, read_log
from cfrg.training.reading import learn_to_read, plain
from cfrg.training.recipes import make_defects
from cfrg.training.remembering import batches, check_options, remember
from cfrg.training.states import resumable
from cfrg.training.trackers import require_trackers
from cfrg.training.validation import Validation
from threecad.dataset.pytorch import ThreeCAD
from threecad.dataset.samples import relative_path
from threecad.dataset.scanning import Index, scan
from threecad.errors import ModelError, UsageError
from threecad.images.camera_bits import DEPTHS, find_bits
from threecad.images.files import read_size
from threecad.images.hashing import hash_file, hash_files
from threecad.system import atomic
from threecad.system.versions import find_versions

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from cfrg.defects.pairs import DefectMaker
    from cfrg.inference.loading import TrainedModel
    from cfrg.network.config import CFRGConfig

__all__ = ["good_images", "read_run", "read_trained_on", "train"]

PEEKED = 8
"""Images that are looked at to see whether they are nearly black."""


@resumable
def train(
    root: str | os.PathLike[str] | Index | None,
    run: str | os.PathLike[str],
    *,
    category: str,
    config: CFRGConfig,
    options: TrainingOptions,
    textures: str | os.PathLike[str] | None = None,
    split_file: str | os.PathLike[str] | None = None,
    errata: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    hard_negatives: str | os.PathLike[str] | None = None,
    teacher_weights: str | os.PathLike[str] | None = None,
    resume: bool = False,
    force: bool = False,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Train a detector on the good training images of one category, or of all.

    Args:
        root: The tree; ``default_root()`` when ``None``. Or an index that was made already, with
            its splits and corrections.
        run: Folder to write.
        category: Name of the category, or ``"all"``.
        config: The network.
        options: How to train it.
        textures: Folder of texture photographs (DTD, say) for the synthetic defects.
        split_file: Take the splits from this file.
        errata: Apply the corrections in this file.
        fold: Held-out fold, for a k-fold split file.
        hard_negatives: Folder of good parts that were wrongly stopped; they join the good images,
            in training and among those held out.
        teacher_weights: File of the teacher's weights, where they cannot be fetched.
        resume: Go on with an interrupted run.
        force: Replace the run that is there, in one step when this one is finished. Until then it
            grows in ``.<name>.partial`` beside it, where ``resume`` finds it.
        say: Is told which input size was chosen and why, where one is chosen, and how many hard
            negatives there are.

    Returns:
        The run folder.

    Raises:
        UsageError: If the folder holds a run and neither ``resume`` nor ``force`` is given.
        DataError: If a hard negative is a copy of a test image.
        BusyError: If another process trains, calibrates or evaluates this run.
        ModelError: If the disk is full; the state that was saved last stays whole.
        Interrupted: If asked to stop; the state is saved.
    """
    folder = RunFolder(run)
    atomic.check_writable(folder.path)
    accelerator = make_accelerator(options)
    with folder.writing() if accelerator.is_main_process else nullcontext():
        if not isinstance(root, Index):
            root = scan(root, split_file=split_file, errata=errata, fold=fold)
        index = good_images(root, category)
        joined = None
        if hard_negatives is not None:
            joined = read_hard_negatives(root, hard_negatives, category)
            index = index.with_samples([*index, *joined.samples])
            if accelerator.is_main_process and say:
                say(str(joined))
        geometry = None
        if options.area:
            geometry = choose_geometry([read_size(s.image) for s in index], options.area)
            config = replace(config, image_size=geometry.size)
        bits, remark = _choose_bits([sample.image for sample in index], config, options)
        config = replace(config, bits=bits)
        if remark and accelerator.is_main_process and say:
            say(remark)
        if config.is_memory:
            check_options(options, config)
        ids = [sample.id for sample in index]
        training, held_out = hold_out(ThreeCAD(index), ids, options.validation_fraction)
        record = _describe(index, category, config, options, split_file, fold)
        if geometry:
            record["geometry"] = geometry.reason
            if accelerator.is_main_process and say:
                say(geometry.reason)
        if joined:
            record["hard_negatives"] = len(joined.samples)
        record["held_out"] = [ids[i] for i in held_out.indices]
        require_trackers(options.trackers)
        weights = find_weights(config.teacher, Path(teacher_weights) if teacher_weights else None)
        record["teacher_weights"] = {"file": weights.name, "sha256": hash_file(weights)}
        torch.manual_seed(options.seed)
        if not config.is_memory:
            model = CFRG(plain(config))
            model.load_teacher(weights)
        if accelerator.is_main_process:
            _claim(folder, record, resume=resume, force=force)
        accelerator.wait_for_everyone()
        place = folder.successor if folder.has_successor else folder
        if resume and _is_finished(place):
            if accelerator.is_main_process and place is not folder:
                folder.finish_successor()
            accelerator.wait_for_everyone()
            return folder.path
        if accelerator.is_main_process:
            _write_trained_on(place, index, [ids[i] for i in training.indices])
        with accelerator.main_process_first():
            images = ImageCache(training, Tiling.from_config(config), workers=options.workers)
            unseen = images
            if len(held_out):
                unseen = ImageCache(held_out, Tiling.from_config(config), workers=options.workers)
            if config.is_memory:
                if accelerator.is_main_process:
                    _finish(remember(images, config, options, weights), place, folder)
                return folder.path
            make_defect = make_defects(options, images, textures)
            pairs = _pair(images, make_defect, config, options)
            validation = None
            if options.validate_every:
                drawn = _pair(unseen, make_defect, config, options, purpose=VALIDATION_STREAM)
                validation = Validation(drawn)

        def prepare(fresh: CFRG) -> None:
            fresh.fit_features(batches(images, fresh))

        fit(
            model, pairs, place.path, options, resume=resume, prepare=prepare, validation=validation
        )
        if accelerator.is_main_process:
            if config != plain(config):
                own = unseen if unseen is not images else None
                learn_to_read(model, config, images, own, seed=options.seed)
            else:
                model.fit_calibration(batches(unseen, model))
            _finish(model, place, folder)
        accelerator.wait_for_everyone()
    return folder.path


def _finish(model: TrainedModel, place: RunFolder, folder: RunFolder) -> None:
    """Write the trained model, the weights last; replace the run that it was trained for."""
    if place.log.exists():
        _draw_curve(place)
    model.cpu()
    record = {**place.read_record(), "weights_digest": digest_weights(model)}
    model.companions[RECORD] = record
    if place is folder:
        model.write_run(place)
        return
    keep_own_card(folder, place)
    model.write_run(place)
    folder.finish_successor()


def _is_finished(run: RunFolder) -> bool:
    """Whether the weights that ``run.json`` names are there."""
    return run.weights.is_file() and "weights_digest" in run.read_record()


def read_run(run: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what ``run.json`` says about a run.

    Raises:
        ModelError: If it is not there or cannot be read.
    """
    return RunFolder(run).read_record()


def read_trained_on(run: str | os.PathLike[str]) -> frozenset[str]:
    """Return the SHA-256 of each image file that a run was trained on; none if that is not known.

    Raises:
        ModelError: If the list cannot be read.
    """
    path = RunFolder(run).trained_on
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return frozenset()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}, the list of training images, cannot be read ({error}). Restore it, or remove "
            "it if no image that was trained on is among those given."
        ) from None
    digests = [line.split(" ", 1)[0] for line in lines]
    if wrong := [number for number, text in enumerate(digests, 1) if not _is_sha256(text)]:
        raise ModelError(
            f"{path}, line {wrong[0]}: no SHA-256 and name of a training image. Restore the list, "
            "or remove it if no image that was trained on is among those given."
        )
    return frozenset(digests)


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and not set(text) - set("0123456789abcdef")


def _write_trained_on(run: RunFolder, index: Index, ids: Sequence[str]) -> None:
    files = [index[name].image for name in ids]
    digests = hash_files(index.root, files)
    lines = (f"{digests[path]}  {relative_path(path, index.root)}\n" for path in files)
    atomic.write_text(run.trained_on, "".join(lines))


def good_images(index: Index, category: str) -> Index:
    """The good training images of a category, or of all.

    Raises:
        UsageError: If there is none.
    """
    chosen = index.select(category=None if category == "all" else category, split="train", label=0)
    if not len(chosen):
        raise UsageError(f"{index.root} has no good training images of {category}.")
    return chosen


def _describe(
    index: Index,
    category: str,
    config: CFRGConfig,
    options: TrainingOptions,
    split_file: str | os.PathLike[str] | None,
    fold: int | None,
) -> dict[str, Any]:
    return {
        "schema": "cfrg.run/1",
        "category": category,
        "seed": options.seed,
        "images": len(index),
        "data_fingerprint": index.fingerprint,
        "errata_digest": index.errata_digest,
        "split_file": Path(split_file).name if split_file else None,
        "fold": fold,
        "config": config.to_dict(),
        "options": options.to_dict(),
        "versions": find_versions(("torch", "torchvision", "accelerate")),
        "threads": torch.get_num_threads(),
    }


def _claim(run: RunFolder, record: dict[str, Any], *, resume: bool, force: bool) -> None:
    """Take the folder for this run, or one that is to replace what is there, or refuse."""
    if run.has_successor:
        if resume and run.successor.record.is_file():
            _check_same_run(run.successor, record)
            return
        if force or resume or not run.holds_run:
            run.discard_successor()
    if run.is_empty:
        atomic.write_json(run.record, record)
    elif not run.record.is_file():
        raise UsageError(f"{run.path} is not empty and holds no run. Choose another `run`.")
    elif resume:
        _check_same_run(run, record)
    elif force:
        atomic.write_json(run.begin_successor().record, record)
    else:
        raise UsageError(
            f"{run.path} holds a run already. Go on with it (`resume=True`), start anew "
            "(`force=True`), or choose another `run`."
        )


def _check_same_run(run: RunFolder, now: dict[str, Any]) -> None:
    before = run.read_record()
    now = json.loads(json.dumps(now))
    before["config"] = {"bits": 8, **before.get("config", {})}  # older runs have no such field
    free = {
        "workers", "device", "draw_defects_on", "log_every", "checkpoint_every", "tensorboard",
        "log_with",
    }  # fmt: skip
    differences = [
        key for key in ("category", "data_fingerprint", "config") if before.get(key) != now[key]
    ]
    differences += [
        key
        for key, value in now["options"].items()
        if key not in free and before.get("options", {}).get(key) != value
    ]
    if differences:
        raise UsageError(
            f"{run.path} was started with another {', '.join(differences)}. Resume with the "
            "options of the first start (see run.json), or start anew with `force=True`."
        )


def _pair(
    images: ImageCache,
    make_defect: DefectMaker,
    config: CFRGConfig,
    options: TrainingOptions,
    purpose: int = DEFECT_STREAM,
) -> TrainingPairs:
    return TrainingPairs(
        images,
        make_defect,
        seed=options.seed,
        crop=_crop(config, options),
        scales=1 if config.tile or not options.crop else len(config.scales),
        parts=images.parts() if options.foreground else None,
        purpose=purpose,
    )


def _choose_bits(
    images: Sequence[Path], config: CFRGConfig, options: TrainingOptions
) -> tuple[int, str | None]:
    """Return how many of 16 bits are used, and what is to be said about it, if anything."""
    if options.find_bits:
        if config.bits != 8:
            raise UsageError(f"bits is {config.bits}; leave it out where find_bits finds it.")
        bits = find_bits(images)
        return bits, f"Bits {bits}: the fewest of {DEPTHS} that hold all values of the images."
    used = find_bits(images[:PEEKED]) if config.bits == 8 else 8
    if not 8 < used < 16:
        return config.bits, None
    return config.bits, (
        f"The images have 16 bits a channel and use {used} of them: by the upper eight of 16 they "
        f"are nearly black. Train with `bits={used}`, or `find_bits=true`."
    )


def _crop(config: CFRGConfig, options: TrainingOptions) -> tuple[int, int] | None:
    """Height and width of the crops that are trained on; ``None`` for whole images."""
    if config.tile:
        return config.image_size
    if not options.crop:
        return None
    height, width = config.image_size
    return min(options.crop, height), min(options.crop, width)


def _draw_curve(run: RunFolder) -> None:
    from threecad.pages.figures import training_curve

    figure = training_curve(read_log(run.log))
    with atomic.replacing(run.figures / "curve.png") as temporary:
        figure.savefig(temporary, dpi=150)
