"""``cfrg bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cfrg.cli.export import parse_size
from threecad.cli.group import examples, json_option, print_json

if TYPE_CHECKING:
    from cfrg.evaluation.speed import Benchmark

__all__ = ["bench"]


@click.command(
    epilog=examples("cfrg bench run --runtime torch --repetitions 5 --images 3cad --json")
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    "variants",
    multiple=True,
    type=click.Choice(
        [
            *("torch", "torch-compile", "onnxruntime", "onnxruntime-int8"),
            *("openvino", "openvino-int8"),
        ]
    ),
    help="Only this one. May be given several times.",
)
@click.option(
    "--images",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Tree, folder or file of images.  [default: drawn ones]",
)
@click.option(
    "--input-size",
    callback=parse_size,
    metavar="HxW",
    help="Height and width to bring the images to.  [default: those of the first]",
)
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How often each is timed.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="T", help="[default: one per core]")
@json_option
def bench(
    run: Path,
    variants: tuple[str, ...],
    images: Path | None,
    input_size: tuple[int, int] | None,
    repetitions: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Time RUN from image file to score, in every runtime that is installed.

    decode reads a PNG file; preprocess, model and post are measured one by one; whole is what an
    exported graph does in one piece. One image at a time, each runtime in a process of its own.
    """
    from cfrg.evaluation.speed import benchmark_run

    result = benchmark_run(
        run,
        variants=variants,
        images=images,
        input_size=input_size,
        repetitions=repetitions,
        threads=threads,
    )
    if as_json:
        print_json(result.to_dict())
    else:
        _print_benchmark(result)


def _print_benchmark(benchmark: Benchmark) -> None:
    """Print the times as a table on stdout."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from cfrg.evaluation.latency import STAGES

    machine = benchmark.machine
    title = (
        f"{benchmark.image_size[0]}×{benchmark.image_size[1]} PNG, network at "
        f"{benchmark.network_size[0]}×{benchmark.network_size[1]}, {benchmark.threads} threads, "
        f"{machine['processor']}; ms an image: median (95th percentile)"
    )
    table = Table(box=box.SIMPLE, title=title)
    table.add_column("runtime")
    for column in (*STAGES, "images/s", "peak MiB"):
        table.add_column(column, justify="right")
    for variant in benchmark.variants:
        if variant.problem:
            table.add_row(variant.name, variant.problem)
            continue
        cells = [f"{variant.stages[s].p50:.1f} ({variant.stages[s].p95:.1f})" for s in STAGES]
        memory = "" if variant.peak_memory is None else f"{variant.peak_memory / 2**20:.0f}"
        rate = f"{variant.throughput:.1f}"
        table.add_row(f"{variant.name} {variant.version}", *cells, rate, memory)
    Console(width=140).print(table)
