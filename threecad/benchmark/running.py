"""All trials of a benchmark, one after the other, each once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from threecad.benchmark.detectors import UNAVAILABLE, check_method
from threecad.benchmark.interface import Trial
from threecad.benchmark.store import Record, Store
from threecad.benchmark.trials import Job, select_images
from threecad.dataset.scanning import Selection, scan
from threecad.errors import UsageError
from threecad.images.hashing import hash_file
from threecad.system import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from threecad.benchmark.store import Key
    from threecad.dataset.samples import Index
    from threecad.images.masks import MaskRule

__all__ = ["Plan", "run_benchmark", "run_process"]

SCHEMA = "threecad.benchmark/1"

GROWING = ("options", "data")
"""What a folder shares by method and by category: new ones may join."""

LAST_LINES = 5
"""Lines of a crashed trial's log that its record quotes."""


@dataclass(frozen=True)
class Plan:
    """What to run, and how. All trials in one folder share everything but the first three.

    Attributes:
        methods: Names, see ``threecad.benchmark.detectors``.
        categories: Categories; ``None`` for all in the tree.
        seeds: Number of seeds: 0, 1, …
        image_size: Height and width of the input, pixels, for methods that do not insist on one.
        max_steps: At most so many optimiser steps per trial; ``None`` for the methods' own budgets.
        backbone: timm's name of a backbone for methods that let it be chosen.
        backbone_weights: Folder of weight files.
        textures: Folder of texture photographs.
        device: ``cpu``, ``cuda``, …
        bootstrap: Replicates for the confidence intervals over test images.
        split_file: Take the splits from this file.
        fold: Held-out fold of a k-fold split file.
        errata: Apply the corrections in this file.
        mask_rule: Decode all masks by this rule (see ``threecad.decode_mask``).
        options: Method → what was given with ``--set``.
        keep_predictions: Leave maps and scores in the trials' folders.
    """

    methods: tuple[str, ...]
    categories: tuple[str, ...] | None = None
    seeds: int = 1
    image_size: int = 256
    max_steps: int | None = None
    backbone: str | None = None
    backbone_weights: Path | None = None
    textures: Path | None = None
    device: str = "cpu"
    bootstrap: int = 1000
    split_file: Path | None = None
    fold: int | None = None
    errata: Path | None = None
    mask_rule: MaskRule | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    keep_predictions: bool = False

    def scan(self, root: str | Path | None) -> Index:
        """Return the samples of the plan's categories, under its split and corrections."""
        return scan(
            root,
            categories=self.categories,
            split_file=self.split_file,
            errata=self.errata,
            fold=self.fold,
        )

    def shared(self, index: Index) -> dict[str, Any]:
        """Return what has to be the same for all trials of one folder."""
        names = ("image_size", "max_steps", "backbone", "bootstrap", "fold", "mask_rule")
        files = {"split_file": self.split_file, "errata": self.errata}
        folders = {"backbone_weights": self.backbone_weights, "textures": self.textures}
        return {
            "schema": SCHEMA,
            **{name: asdict(self)[name] for name in names},
            **{
                name: f"{path.name}, SHA-256 {hash_file(path)}" if path else None
                for name, path in files.items()
            },
            **{name: path.name if path else None for name, path in folders.items()},
            "options": {method: self.options.get(method, {}) for method in self.methods},
            "data": {
                category: index.select(category=category).fingerprint
                for category in index.categories
            },
        }


def run_benchmark(
    root: str | Path | None,
    plan: Plan,
    out: str | Path,
    *,
    retry: bool = False,
    progress: bool = False,
) -> dict[Key, Record]:
    """Run every trial of the plan that is not in the store yet.

    A trial that fails is recorded with its error, and the others go on. The same call continues
    what was interrupted; several processes that are given the same folder share the trials.

    Args:
        root: The tree; the default root when ``None``.
        plan: What to run.
        out: Folder for ``trials.jsonl``, ``benchmark.json`` and ``trials/``, with one folder per
            ``<method>/<category>/<seed>``.
        retry: Run the failed trials once more.
        progress: Show a progress bar on stderr.

    Returns:
        The records of everything in the folder.

    Raises:
        UsageError: If a name is wrong, or the folder holds trials that were run otherwise.
    """
    for method in plan.methods:
        check_method(method)
    if strange := sorted(set(plan.options) - set(plan.methods)):
        raise UsageError(f"There are options for {strange[0]}, which is not among the methods.")
    out = Path(out).resolve()
    index = plan.scan(root)
    for category in index.categories:
        select_images(index, category)
    store = Store(out / "trials.jsonl")
    _claim(out / "benchmark.json", plan.shared(index), _failed_methods(store))
    jobs = list(_jobs(plan, index, out))
    elsewhere = 0
    with tqdm(jobs, desc="benchmark", unit="trial", disable=not progress) as bar:
        for job in bar:
            trial = job.trial
            bar.set_postfix_str(f"{trial.method} {trial.category} seed {trial.seed}")
            elsewhere += not _run_once(job, store, retry=retry)
    if elsewhere and progress:
        tqdm.write(f"{elsewhere} trials are being run by another process.", file=sys.stderr)
    return store.read()


def _failed_methods(store: Store) -> set[str]:
    """Return the methods of which no trial has succeeded: how they were run binds nobody."""
    records = store.read().values()
    done = {record.method for record in records if record.error is None}
    return {record.method for record in records} - done


def _jobs(plan: Plan, index: Index, out: Path) -> Iterator[Job]:
    """Yield the jobs: all of the first seed before the second."""
    for seed in range(plan.seeds):
        for method in plan.methods:
            if method in UNAVAILABLE:
                continue
            for category in index.categories:
                name = method.replace(":", ".")
                trial = Trial(
                    method=method,
                    category=category,
                    seed=seed,
                    folder=out / "trials" / name / category / str(seed),
                    image_size=plan.image_size,
                    device=plan.device,
                    max_steps=plan.max_steps,
                    backbone=plan.backbone,
                    backbone_weights=_absolute(plan.backbone_weights),
                    textures=_absolute(plan.textures),
                    options=plan.options.get(method, {}),
                )
                yield Job(
                    trial=trial,
                    selection=Selection(
                        index.root.resolve(),
                        categories=(category,),
                        split_file=_absolute(plan.split_file),
                        fold=plan.fold,
                        errata=_absolute(plan.errata),
                    ),
                    mask_rule=plan.mask_rule,
                    bootstrap=plan.bootstrap,
                    keep_predictions=plan.keep_predictions,
                )


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.resolve()


def _claim(path: Path, shared: dict[str, Any], failed: set[str]) -> None:
    """Remember how the trials of this folder are run, or refuse to mix two ways."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        before = _read_claim(path)
        for method in failed:
            before.get("options", {}).pop(method, None)
        changed = []
        for key, value in shared.items():
            known = before.get(key, value)
            if key in GROWING:
                changed += [
                    f"{key} ({name})"
                    for name in value
                    if known.get(name, value[name]) != value[name]
                ]
            elif known != value:
                changed.append(key)
        if changed:
            raise UsageError(
                f"{path.parent} holds trials that differ in {', '.join(changed)}: see {path.name}. "
                "Choose another `out`."
            )
        grown = {key: {**before.get(key, {}), **shared[key]} for key in GROWING}
        atomic.write_json(path, {**shared, **grown})


def _read_claim(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(before.get(key, {}), dict) for key in GROWING):
            return dict(before)
    except (ValueError, AttributeError, RecursionError):
        pass
    raise UsageError(
        f"{path} is damaged, so it cannot be told how the trials beside it were run. Choose "
        "another `out`, or remove the file if you know that they were run in the same way."
    )


def _run_once(job: Job, store: Store, *, retry: bool) -> bool:
    """Run a trial and store its record if it is not there; false if another process is at it."""
    trial = job.trial
    trial.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(trial.folder / "running.lock", timeout=0):
            known = store.read().get((trial.method, trial.category, trial.seed))
            if known is None or (retry and known.error is not None):
                store.append(run_process(job))
    except Timeout:
        return False
    return True


def run_process(job: Job) -> Record:
    """Run a trial in a new process and return its record."""
    trial = job.trial
    path, outcome = trial.folder / "job.json", trial.folder / "record.json"
    outcome.unlink(missing_ok=True)
    job.save(path)
    command = [sys.executable, "-m", "threecad.benchmark.trials", str(path)]
    log = trial.folder / "log.txt"
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file) as process,
    ):
        try:
            # The pipe is never written to: it ends the trial when this process is killed.
            process.wait()
        except BaseException:
            process.terminate()
            raise
    if outcome.is_file():
        return Record.from_dict(json.loads(outcome.read_text(encoding="utf-8")))
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    message = "\n".join([_describe_end(process.returncode), *lines])
    return Record(trial.method, trial.category, trial.seed, error=message)


def _describe_end(code: int) -> str:
    if code >= 0:
        return f"The process ended with code {code}."
    name = signal.Signals(-code).name
    hint = " Was it out of memory?" if name == "SIGKILL" else ""
    return f"The process was ended by {name}.{hint}"
