"""``cfrg export``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from threecad.cli.group import examples, force_option, json_option, print_json

if TYPE_CHECKING:
    from cfrg.export.repositories import ModelServer
    from cfrg.export.writing import ExportReport, Format, Precision

__all__ = ["export"]


def parse_size(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    """Turn ``HxW`` into two numbers."""
    if text is None:
        return None
    if not (match := re.fullmatch(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})", text)):
        raise click.BadParameter(f"{text!r}: expected height and width in pixels, e.g. 1024x1280")
    return int(match[1]), int(match[2])


@click.command(
    epilog=examples(
        "cfrg export run --to onnx --out detector.onnx",
        "cfrg export run --to torch-export --dynamic --images 3cad",
        "cfrg export run --for triton --out models --name stator",
    )
)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to",
    type=click.Choice(["onnx", "openvino", "torch-export"]),
    help="Format of the file; this or --for is needed.",
)
@click.option(
    "--for",
    "server",
    type=click.Choice(["ovms", "triton"]),
    help="Write a model repository for OpenVINO Model Server, or for Triton.",
)
@click.option("--name", help="Of the model in the repository.  [default: that of RUN]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The file, ending in .onnx, .xml or .pt2, or the repository.  [default: in RUN/export]",
)
@click.option("--fp16", "precision", flag_value="float16", help="Network in half precision.")
@click.option(
    "--int8",
    "precision",
    flag_value="int8",
    help="Segmentation U-Net in eight-bit integers; needs --images.",
)
@click.option(
    "--input-size",
    callback=parse_size,
    metavar="HxW",
    help="Height and width of the camera's images.  [default: the network's own]",
)
@click.option(
    "--dynamic",
    is_flag=True,
    help="Take any number of images, of any size unless --input-size is given.",
)
@click.option(
    "--images",
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Tree or folder of images to compare on.  [default: drawn ones]",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Compare on so many of them; 0 for all.",
)
@force_option
@json_option
def export(
    run: Path,
    to: Format | None,
    server: ModelServer | None,
    name: str | None,
    out: Path | None,
    precision: Precision | None,
    input_size: tuple[int, int] | None,
    dynamic: bool,
    images: Path | None,
    limit: int,
    force: bool,
    as_json: bool,
) -> None:
    """Write RUN as one file for a runtime: an image in; anomaly map, score and decision out.

    Resizing, normalisation, smoothing, score and threshold are inside. The file is written only if
    it computes what the model computes on the images compared.
    """
    if (to is None) == (server is None):
        raise click.UsageError("Say --to FORMAT for a file, or --for SERVER for a repository.")
    if name is not None and server is None:
        raise click.UsageError("--name is for a model repository: say --for, too.")
    options: dict[str, Any] = {
        "out": out,
        "images": images,
        "precision": precision or "float32",
        "input_size": input_size,
        "dynamic": dynamic,
        "limit": limit,
        "force": force,
    }
    if to is not None:
        from cfrg.export.writing import export_run

        report = export_run(run, to, **options)
        said = report.to_dict()
    else:
        from cfrg.export.repositories import export_for_server

        assert server is not None
        repository = export_for_server(run, server, name=name, **options)
        report, said = repository.report, repository.to_dict()
    if as_json:
        print_json(said)
    else:
        _print_report(report)
        if server is not None:
            print(f"{said['configuration']}: for {server}, under the name {said['name']}")


def _print_report(report: ExportReport) -> None:
    """Print a report for people on stdout."""
    from cfrg.runtimes.parity import TOLERANCES

    parity, tolerance = report.parity, TOLERANCES[report.precision]
    size = "any size" if report.input_size is None else "{}×{}".format(*report.input_size)
    print(f"{report.path}: {report.format}, {report.precision}, {report.length / 1e6:.1f} MB")
    print(f"input: images (N, H, W, 3) uint8 RGB of {size}")
    print(
        f"against the model on {parity.images} images: maps and scores within "
        f"{parity.relative_error:.1e} of the maps' range (allowed {tolerance.error:g})"
    )
    if report.image_threshold is None:
        print("no decision: the run has no thresholds yet (`cfrg calibrate`)")
    else:
        print(
            f"decision: score > {report.image_threshold:g}; "
            f"{parity.decisions_changed} of {parity.images} changed"
            + (f", {parity.undecidable} on the threshold" if parity.undecidable else "")
        )
    for name, figures in (report.figures or {}).items():
        print(f"{name}: " + ", ".join(f"{key} {value:.4f}" for key, value in figures.items()))
