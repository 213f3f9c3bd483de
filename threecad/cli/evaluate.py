"""``threecad evaluate`` and ``threecad compare``: scoring predictions, and results side by side."""

from __future__ import annotations

from pathlib import Path

import click

from threecad.cli.group import (
    category_option,
    examples,
    json_option,
    seed_option,
    split_file_option,
    workers_option,
)

__all__ = ["evaluate"]


@click.command(
    epilog=examples(
        "threecad evaluate 3cad predictions",
        "threecad evaluate 3cad predictions --protocol paper --bootstrap 0 --json",
    )
)
@click.argument("root", type=click.Path(path_type=Path))
@click.argument("predictions", type=click.Path(path_type=Path))
@click.option(
    "--protocol",
    type=click.Choice(["full", "paper"]),
    default="full",
    show_default=True,
    help="full: at the size of the masks; paper: as the authors of 3CAD evaluate.",
)
@category_option
@split_file_option
@click.option(
    "--errata",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Apply the corrections in this file.",
)
@click.option(
    "--image-score",
    default="auto",
    show_default=True,
    metavar="RULE",
    help="table, max or top:F (mean of the highest fraction F); auto: the table if there is one.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    metavar="N",
    help="Replicates for the confidence intervals; 0 for none.",
)
@seed_option
@workers_option
@json_option
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the JSON here.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a report.")
def evaluate(
    root: Path,
    predictions: Path,
    protocol: str,
    categories: tuple[str, ...],
    split_file: Path | None,
    errata: Path | None,
    image_score: str,
    bootstrap: int,
    seed: int,
    workers: int | None,
    as_json: bool,
    out: Path | None,
    html: Path | None,
) -> None:
    """Score PREDICTIONS, a folder of anomaly maps and scores, on the test images of ROOT."""
    from threecad.evaluation import evaluate as evaluate_predictions
    from threecad.indexing import scan

    index = scan(root, categories=categories or None, split_file=split_file, errata=errata)
    result = evaluate_predictions(
        index,
        predictions,
        protocol=protocol,  # type: ignore[arg-type]
        image_score=image_score,
        bootstrap=bootstrap,
        seed=seed,
        workers=workers,
        progress=True,
    )
    if out is not None:
        result.to_json(out)
    if html is not None:
        from threecad.reporting import write_report

        write_report(html, title=f"Evaluation of {predictions.name}", result=result)
    click.echo(result.to_json() if as_json else str(result))
