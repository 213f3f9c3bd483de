"""``cfrg evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cfrg.cli.options import computing_options, tile_options
from threecad.cli.group import (
    examples,
    json_option,
    mask_rule_option,
    print_json,
    seed_option,
    selection_options,
)

if TYPE_CHECKING:
    from threecad.dataset.scanning import Selection
    from threecad.evaluation.evaluator import Protocol
    from threecad.images.masks import MaskRule

__all__ = ["evaluate"]


@click.command(
    epilog=examples(
        "cfrg evaluate run 3cad --bootstrap 20",
        "cfrg evaluate run 3cad --baseline --bootstrap 0 --json",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@selection_options(category=None)
@mask_rule_option
@click.option(
    "--protocol",
    type=click.Choice(["full", "paper"]),
    default="full",
    show_default=True,
    help="full: at the resolution of the masks. paper: as the dataset's authors evaluate.",
)
@click.option(
    "--baseline",
    is_flag=True,
    help="Also score a nearest-neighbour memory on the same teacher and data.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Resamples for the confidence intervals; 0 leaves them out.",
)
@tile_options
@computing_options
@seed_option
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the JSON here.")
@json_option
def evaluate(
    run: Path,
    selection: Selection,
    mask_rule: MaskRule | None,
    protocol: Protocol,
    baseline: bool,
    bootstrap: int,
    tile: int | None,
    overlap: int | None,
    batch_size: int,
    workers: int,
    device: str | None,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Score the model of RUN on the test images of ROOT."""
    from cfrg.evaluation.accuracy import evaluate_run

    results = evaluate_run(
        run,
        **selection.arguments(),
        mask_rule=mask_rule,
        protocol=protocol,
        baseline=baseline,
        bootstrap=bootstrap,
        tile=tile,
        overlap=overlap,
        batch_size=batch_size,
        workers=workers,
        device=device,
        seed=seed,
    )
    model = results["model"]
    if out:
        model.to_json(out)
    if as_json:
        for warning in dict.fromkeys(w for result in results.values() for w in result.warnings):
            click.echo(f"Warning: {warning}", err=True)
        print_json(
            {**model.to_dict(), "baseline": results["memory"].to_dict()}
            if baseline
            else model.to_dict()
        )
        return
    for name, result in results.items():
        click.echo(f"{run.name}, {name}" if baseline else str(run))
        click.echo(str(result))
