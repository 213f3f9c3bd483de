"""``threecad split``: which image is for training, validation and test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from threecad.cli.group import (
    across_categories_option,
    cluster_option,
    examples,
    force_option,
    json_option,
    print_json,
    seed_option,
    selection_options,
    workers_option,
)
from threecad.errors import UsageError

if TYPE_CHECKING:
    from threecad.dataset.scanning import Selection
    from threecad.dataset.split_files import SplitFile

_KINDS = (
    "official", "few-shot", "k-fold", "holdout", "leak-free", "supervised", "one-class", "noisy",
)  # fmt: skip


@click.command(
    epilog=examples(
        "threecad split 3cad --kind holdout --fraction 0.4 --out holdout.csv",
        "threecad split 3cad --kind few-shot --shots 2 --seed 7 --out two-shot.csv",
        "threecad split 3cad --kind supervised --out supervised.csv --json",
        "threecad split 3cad --kind one-class --out one-class.csv",
    )
)
@selection_options(splits=False)
@click.option("--kind", type=click.Choice(_KINDS), required=True, help="How to divide the images.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Table to write; FILE.json beside it says how it was made.",
)
@seed_option
@click.option(
    "--shots", type=int, metavar="N", help="few-shot: training images per category.  [default: 4]"
)
@click.option("--folds", type=int, metavar="N", help="k-fold: number of folds.  [default: 5]")
@click.option(
    "--fraction",
    type=float,
    metavar="F",
    help="holdout: training images to validation [default: 0.2]; supervised: images to each of "
    "validation and test [0.15]; one-class: good images to test [0.2]; noisy: defects moved into "
    "training [0.1].",
)
@click.option("--near", is_flag=True, help="Keep near duplicates together too.")
@across_categories_option
@workers_option
@cluster_option
@force_option
@json_option
def split(
    selection: Selection,
    out: Path,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Divide the images of ROOT and write a split file.

    Images of a category with the same pixels never end up on two sides; the draw is per category
    and defect type and depends on the seed alone. Other commands take the file with --split-file.

    \b
    official     as in the tree
    leak-free    less the training images that are test images too
    holdout      some training images to validation
    few-shot     a few training images per category
    k-fold       good images in folds, each held out once
    supervised   defects in training, validation and test
    one-class    training with good images alone, every defect in test
    noisy        some defective images in training
    """  # noqa: D301
    from threecad.dataset.splitting import split as divide

    if out.exists() and not force:
        raise UsageError(
            f"{out} is there already. Choose another name, or replace it with --force."
        )
    made = divide(selection.scan(), progress=True, **options)
    made.save(out)
    if as_json:
        print_json({"path": str(out), **made.describe()})
    else:
        _print(made, out)


def _print(made: SplitFile, out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    columns = [f"{split} {label}" for split in ("train", "val", "test") for label in _LABELS]
    counts = made.counts()
    used = [name for name in columns if any(name in row for row in counts.values())]
    table = Table("category", title=str(out), title_justify="left")
    for name in used:
        table.add_column(name, justify="right")
    for category, row in counts.items():
        table.add_row(category, *(str(row.get(name, 0)) for name in used))
    console.print(table)
    if made.folds:
        console.print(f"{len(made.folds)} folds of the normal images: choose one with --fold.")
    if made.left_out:
        console.print(
            f"{len(made.left_out):,} images are left out: they are duplicates of test images."
        )
    for note in made.notes:
        console.print(f"note: {note}", soft_wrap=True)


_LABELS = ("normal", "anomaly")
