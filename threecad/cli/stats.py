"""``threecad stats``: the statistics of the defects of a tree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from threecad.cli.group import (
    cluster_option,
    examples,
    json_option,
    mask_rule_option,
    print_json,
    selection_options,
    workers_option,
)

if TYPE_CHECKING:
    from threecad.dataset.scanning import Selection
    from threecad.images.masks import MaskRule
    from threecad.statistics.summaries import Grouping, Unit


@click.command(
    epilog=examples(
        "threecad stats 3cad",
        "threecad stats 3cad --by defect_type --per image --csv defects.csv",
        "threecad stats 3cad --category Copper_Stator --html stats.html --figures figures",
    )
)
@selection_options(splits=False)
@click.option(
    "--by",
    type=click.Choice(["category", "defect_type", "size"]),
    default="category",
    show_default=True,
    help="What a row of the table is.",
)
@click.option(
    "--per",
    type=click.Choice(["region", "image"]),
    default="region",
    show_default=True,
    help="Whether a connected region or an image counts as one.",
)
@click.option(
    "--contrast/--no-contrast",
    default=True,
    show_default=True,
    help="Decode the images too, to compare defects with their surround.",
)
@mask_rule_option
@json_option
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write one row per region or image (--per).",
)
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the figures, as PNG and PDF.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write all tables and figures as one page.",
)
@workers_option
@cluster_option
@click.pass_context
def stats(
    context: click.Context,
    selection: Selection,
    by: Grouping,
    per: Unit,
    contrast: bool,
    mask_rule: MaskRule | None,
    as_json: bool,
    csv_file: Path | None,
    figures: Path | None,
    html: Path | None,
    workers: int | None,
    cluster: str | None,
) -> None:
    """Measure the defects of ROOT: sizes, shapes, positions, types, contrast.

    What was measured is remembered, so that the second call on an unchanged tree is instant.
    """
    from threecad.cli.statistics import print_statistics
    from threecad.statistics import stats as measure

    statistics = measure(
        selection.scan(),
        contrast=contrast,
        mask_rule=mask_rule,
        workers=workers,
        cluster=cluster,
        progress=True,
    )
    if as_json:
        print_json(statistics.to_dict(by, per))
    else:
        print_statistics(statistics, by, per)
    if csv_file is not None:
        statistics.write_csv(csv_file, per)
    if figures is not None:
        from threecad.pages.figures import save_figure
        from threecad.pages.statistics_figures import draw_figures

        for name, figure in draw_figures(statistics, per).items():
            save_figure(figure, figures, name)
    if html is not None:
        from threecad.pages.statistics_page import write_page

        write_page(statistics, html, per)
    if any(finding.severity == "error" for finding in statistics.findings):
        context.exit(1)
