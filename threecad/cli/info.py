"""``threecad info``: what is in a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from threecad.cli.group import (
    category_option,
    errata_option,
    examples,
    fold_option,
    json_option,
    print_json,
    root_argument,
    split_file_option,
)

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=examples("threecad info 3cad", "threecad info 3cad --json"))
@root_argument
@category_option
@split_file_option
@fold_option
@errata_option
@json_option
def info(
    root: Path | None,
    categories: tuple[str, ...],
    split_file: Path | None,
    fold: int | None,
    errata: Path | None,
    as_json: bool,
) -> None:
    """Count the images of ROOT per category and defect type, beside the published counts."""
    from threecad.indexing import scan
    from threecad.overview import count, print_overview

    index = scan(
        root, categories=categories or None, split_file=split_file, errata=errata, fold=fold
    )
    counts = count(index)
    if as_json:
        print_json(counts.to_dict())
    else:
        print_overview(counts)
