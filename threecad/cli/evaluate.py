"""``threecad evaluate`` and ``threecad compare``: scoring predictions, and results side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from threecad.cli.group import (
    examples,
    json_option,
    mask_rule_option,
    print_json,
    seed_option,
    selection_options,
    workers_option,
)

if TYPE_CHECKING:
    from threecad.benchmark.comparison import Comparison
    from threecad.benchmark.reports import Report
    from threecad.dataset.scanning import Selection
    from threecad.images.masks import MaskRule

__all__ = ["compare", "evaluate"]


@click.command(
    epilog=examples(
        "threecad evaluate 3cad predictions --out result.json",
        "threecad evaluate 3cad predictions --protocol paper --bootstrap 0 --out Mine.json",
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
@selection_options(root=False)
@mask_rule_option
@click.option(
    "--ignore", type=click.Path(exists=True, path_type=Path), metavar="AREAS",
    help="What takes no part: a mask or LabelMe or COCO file, or a folder of one for each "
    "category or image.",
)  # fmt: skip
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
@click.option(
    "--alarm-rate", type=float, default=0.05, show_default=True, metavar="R",
    help="Share of good images that figures of decisions may stop.",
)  # fmt: skip
@click.option(
    "--miss-rate", type=float, default=0.05, show_default=True, metavar="R",
    help="Share of defective images that may be missed where good ones are passed.",
)  # fmt: skip
@click.option(
    "--threshold", type=float, metavar="T",
    help="Image score above which an image is defective, instead of --alarm-rate.",
)  # fmt: skip
@click.option(
    "--reach", type=float, default=0.02, show_default=True, metavar="D",
    help="How near a region a map's highest point must lie, as a part of the diagonal.",
)  # fmt: skip
@click.option("--cost-miss", type=float, metavar="C", help="Cost of passing a defective part.")
@click.option("--cost-alarm", type=float, metavar="C", help="Cost of stopping a good part.")
@click.option(
    "--defect-rate", type=float, metavar="P",
    help="Share of defective parts in production; all three give the expected cost of a part.",
)  # fmt: skip
@click.option("--aupimo", is_flag=True, help="AUPIMO, too: every map is read once more.")
@click.option(
    "--per-image", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write a CSV with label, score and AUPIMO of each image.",
)  # fmt: skip
@seed_option
@workers_option
@json_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the JSON here.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a report.",
)
def evaluate(
    selection: Selection,
    predictions: Path,
    protocol: str,
    mask_rule: MaskRule | None,
    ignore: Path | None,
    image_score: str,
    bootstrap: int,
    seed: int,
    alarm_rate: float,
    miss_rate: float,
    threshold: float | None,
    reach: float,
    cost_miss: float | None,
    cost_alarm: float | None,
    defect_rate: float | None,
    aupimo: bool,
    per_image: Path | None,
    workers: int | None,
    as_json: bool,
    out: Path | None,
    html: Path | None,
) -> None:
    """Score PREDICTIONS, a folder of anomaly maps and scores, on the test images of ROOT."""
    from threecad.evaluation.operation.point import Costs, OperatingPoint
    from threecad.evaluation.pipeline import evaluate as evaluate_predictions
    from threecad.system import atomic

    costs = None
    if cost_miss is not None and cost_alarm is not None and defect_rate is not None:
        costs = Costs(cost_miss, cost_alarm, defect_rate)
    elif (cost_miss, cost_alarm, defect_rate) != (None, None, None):
        raise click.UsageError("Give --cost-miss, --cost-alarm and --defect-rate together.")
    for path in (out, html, per_image):
        if path is not None:
            atomic.check_writable(path.parent)
    result = evaluate_predictions(
        selection.scan(),
        predictions,
        protocol=protocol,  # type: ignore[arg-type]
        image_score=image_score,
        mask_rule=mask_rule,
        ignore=ignore,
        bootstrap=bootstrap,
        seed=seed,
        operation=OperatingPoint(
            alarm_rate=alarm_rate,
            miss_rate=miss_rate,
            threshold=threshold,
            reach=reach,
            costs=costs,
        ),
        aupimo=aupimo,
        workers=workers,
        progress=True,
    )
    if out is not None:
        result.to_json(out)
    if per_image is not None:
        result.write_images(per_image)
    if html is not None:
        from threecad.pages.evaluation_report import write_report

        write_report(html, title=f"Evaluation of {predictions.name}", result=result)
    if as_json:
        for warning in result.warnings:
            click.echo(f"Warning: {warning}", err=True)
    click.echo(result.to_json() if as_json else str(result))


@click.command(
    epilog=examples(
        "threecad compare result.json --published CFRG --published RD++",
        "threecad compare result.json other.json --test",
        "threecad compare result.json --figure pixel_auroc --figure pro_30 --latex table.tex",
    )
)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--published",
    "methods",
    multiple=True,
    metavar="METHOD",
    help="A method of the 3CAD paper, a repository (OWNER/NAME) that reports figures of its own, "
    "or all. May be given several times.",
)
@click.option(
    "--figure",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Only this figure, such as pixel_auroc; by default those that two results have. "
    "May be given several times.",
)
@click.option(
    "--test",
    is_flag=True,
    help="Say which differences of image AUROC are established: DeLong, paired bootstrap, Holm, "
    "ranks. All RESULTS must be of the same images.",
)
@click.option(
    "--test-figure",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the differences with their intervals: .png, .pdf or .svg; implies --test.",
)
@click.option(
    "--rank-figure",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the mean ranks over categories as a critical-difference diagram; implies --test.",
)
@json_option
@click.option(
    "--markdown",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write Markdown tables.",
)
@click.option(
    "--latex",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write LaTeX tables.",
)
def compare(
    results: tuple[Path, ...],
    methods: tuple[str, ...],
    keys: tuple[str, ...],
    test: bool,
    test_figure: Path | None,
    rank_figure: Path | None,
    as_json: bool,
    markdown: Path | None,
    latex: Path | None,
) -> None:
    """Put RESULTS, written by evaluate --out, side by side; differences are to the first.

    A row has the name of its file. LaTeX tables leave the differences out. What others than the
    authors reported on 3CAD stands in tables of its own, below.
    """
    from threecad.benchmark.comparison import compare as compare_results
    from threecad.benchmark.comparison import published_methods, published_result, shared_figures
    from threecad.benchmark.reported import reported_protocols, tabulate
    from threecad.errors import UsageError
    from threecad.evaluation.results import Result
    from threecad.system import atomic

    named = {path.stem: Result.from_json(path) for path in results}
    if len(named) < len(results):
        raise UsageError("Two of the results have the same file name. Rename one of them.")
    significance = None
    for figure in (test_figure, rank_figure):
        if figure is not None and figure.suffix not in (".png", ".pdf", ".svg"):
            raise click.UsageError(f"{figure} shall end in .png, .pdf or .svg.")
    if test or test_figure is not None or rank_figure is not None:
        from threecad.benchmark.significance import judge

        significance = judge(named)
    if significance is not None:
        from threecad.benchmark.interval_figure import draw_differences, draw_ranks

        if test_figure is not None:
            draw_differences(significance.differences, test_figure)
        if rank_figure is not None:
            if significance.ranks is None:
                raise UsageError(
                    "Ranks need three results or more, of three categories or more. Leave "
                    "--rank-figure out."
                )
            draw_ranks(significance.ranks, rank_figure)
    everything = "all" in methods
    for method in published_methods() if everything else methods:
        if "/" not in method:
            named[f"{method} (published)"] = published_result(method)
    reported = reported_protocols(None if everything else [name for name in methods if "/" in name])
    parts: list[Comparison | Report] = []
    plain: dict[str, Any] = {}
    if named or not reported:
        comparison = compare_results(named, keys=keys or shared_figures(named))
        parts, plain = [comparison], comparison.to_dict()
    if reported:
        parts.append(tabulate(reported))
        plain["reported"] = [protocol.to_dict() for protocol in reported]
    if significance is not None:
        plain["significance"] = significance.to_dict()
    if markdown is not None:
        atomic.write_text(markdown, "\n".join(part.to_markdown() for part in parts))
    if latex is not None:
        atomic.write_text(latex, "\n".join(part.to_latex() for part in parts))
    if as_json:
        print_json(plain)
    else:
        click.echo("\n".join(part.to_markdown() for part in parts), nl=False)
        if significance is not None:
            click.echo(f"\n{significance}")
