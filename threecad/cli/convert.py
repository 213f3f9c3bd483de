"""``threecad convert`` and ``threecad import``: from one layout to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from threecad.cli.group import (
    errata_option,
    examples,
    fold_option,
    force_option,
    json_option,
    mask_rule_option,
    name_flags,
    print_json,
    seed_option,
    split_file_option,
    workers_option,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from threecad.formats import Conversion, Plan

__all__ = ["convert", "import_"]

Function = TypeVar("Function", bound="Callable[..., Any]")

_FOLDER = click.Path(path_type=Path)
_EXISTING = click.Path(exists=True, file_okay=False, path_type=Path)


def _placement_options(*, reference: bool) -> Callable[[Function], Function]:
    """Add ``--copy``, ``--link`` and, if asked for, ``--reference``."""

    def add(function: Function) -> Function:
        if reference:
            function = click.option(
                "--reference",
                "placement",
                flag_value="reference",
                help="Refer to the images where they are.",
            )(function)
        function = click.option(
            "--link",
            "placement",
            flag_value="link",
            help="Hard links instead of copies, where the file system allows it.",
        )(function)
        return click.option(
            "--copy",
            "placement",
            flag_value="copy",
            default="copy",
            help="Copy the images (the default).",
        )(function)

    return add


def _decision_options(function: Function) -> Function:
    """Add what to do with what a source leaves in doubt; refused without."""
    for option in (
        click.option(
            "--boxes",
            type=click.Choice(["fill"]),
            help="Where only a box is drawn: take all of it for defect.",
        ),
        click.option(
            "--conflicts",
            type=click.Choice(["label", "mask", "skip"]),
            help="Where label and mask contradict each other: believe one, or leave the image out.",
        ),
        click.option(
            "--orphans",
            type=click.Choice(["skip"]),
            help="Masks and annotations of no image: leave them out.",
        ),
        click.option(
            "--unlabelled",
            type=click.Choice(["good", "skip"]),
            help="Images that nothing describes: count them as good, or leave them out.",
        ),
    ):
        function = option(function)
    return function


_DECISIONS = ("unlabelled", "orphans", "conflicts", "boxes")


def _decided(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with those of ``_decision_options`` gathered in one."""
    from threecad.formats import Decisions

    chosen = {name: options.pop(name) for name in _DECISIONS}
    return {**options, "decisions": Decisions(**{k: v for k, v in chosen.items() if v})}


@click.command(
    epilog=examples(
        "threecad convert 3cad coco --to coco",
        "threecad convert 3cad mvtec --to mvtec --category Copper_Stator --link",
        "threecad convert mvtec back --from mvtec",
    )
)
@click.argument("source", metavar="SRC", type=_EXISTING)
@click.argument("destination", metavar="DST", type=_FOLDER)
@click.option("--to", metavar="FORMAT", help="Write this format.")
@click.option("--from", "from_", metavar="FORMAT", help="Read this format.  [default: found out]")
@click.option(
    "--category",
    "categories",
    multiple=True,
    metavar="C",
    help="Only this category. May be given several times.",
)
@split_file_option
@fold_option
@errata_option
@click.option(
    "--split",
    "supervised",
    is_flag=True,
    help="Divide anew, with defects in training too: what yolo needs.",
)
@seed_option
@_placement_options(reference=True)
@click.option(
    "--size",
    type=click.IntRange(min=1),
    metavar="S",
    help="Scale images down until no side is longer.",
)
@click.option("--polygons", is_flag=True, help="coco: outlines instead of run lengths.")
@mask_rule_option
@_decision_options
@force_option
@workers_option
@json_option
def convert(source: Path, destination: Path, *, as_json: bool, **options: Any) -> None:
    """Write SRC to DST in another format.

    Formats: 3cad, anomalib, coco, croissant, imagefolder, labelme, meta-json, mvtec, parquet, visa,
    voc, webdataset, yolo; pairs and photographs are only read. SRC is read as what it looks like.
    """
    from threecad.formats import convert as convert_folder

    result = convert_folder(source, destination, progress=True, **_decided(options))
    _print(result, as_json=as_json)


@click.command(
    name="import",
    epilog=examples(
        "threecad import 3cad parts --good Copper_Stator/train/good --category Stator",
        "threecad import 3cad/Iron_Stator stator",
    ),
)
@click.argument("folders", metavar="[SRC] DST", nargs=-1, required=True, type=_FOLDER)
@click.option("--from", "from_", metavar="FORMAT", help="The format of SRC.  [default: found out]")
@click.option(
    "--good", type=_FOLDER, metavar="DIR", help="Photographs of good parts, in SRC or anywhere."
)
@click.option(
    "--bad",
    type=_FOLDER,
    metavar="DIR",
    help="Photographs of bad parts; sub-folders name defect types.",
)
@click.option(
    "--category",
    metavar="NAME",
    help="Name of the category, if SRC has only one.  [default: name of the folder]",
)
@click.option(
    "--test-fraction",
    type=click.FloatRange(0, 1),
    metavar="F",
    help="Part of the good images for testing, if SRC has no splits.  [default: 0.2]",
)
@seed_option
@split_file_option
@fold_option
@_placement_options(reference=False)
@mask_rule_option
@_decision_options
@click.option(
    "--errata-for",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="ROOT",
    help="SRC are annotations of the images of ROOT that people corrected; DST, a .json, gets what "
    "they changed.",
)
@click.option("--dry-run", is_flag=True, help="Say what SRC is understood as, and write nothing.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="With --dry-run: a page of it, with outlined examples.",
)
@force_option
@workers_option
@json_option
def import_(
    folders: tuple[Path, ...],
    *,
    errata_for: Path | None,
    dry_run: bool,
    html: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Bring images in another layout into that of 3CAD, at DST.

    \b
    SRC may be
      a folder of good and one of bad photographs, without masks (--good, --bad);
      folders of images with their masks beside them (pairs);
      MVTec-AD (mvtec), VisA (visa), or any format that `threecad convert` reads.

    Which good images are for testing depends on their content alone, or on --split-file.
    """  # noqa: D301  (click wants the backspace)
    from threecad.errors import UsageError
    from threecad.formats import convert as convert_folder
    from threecad.formats import plan

    if errata_for is not None:
        if len(folders) != 2 or dry_run:
            raise UsageError("--errata-for takes SRC and DST, a .json, and no --dry-run.")
        _write_corrections(*folders, errata_for, options, as_json=as_json)
        return
    if html is not None and not dry_run:
        raise UsageError("--html shows what --dry-run finds. Give both.")
    if dry_run:
        if len(folders) > 2:
            raise UsageError("Give SRC and, as without --dry-run, DST.")
        made = plan(
            folders[0] if len(folders) == 2 or not options["good"] else None,
            **_of_plan(_decided(options)),
        )
        if html is not None:
            from threecad.pages.import_page import write_plan

            write_plan(made, html)
        _print_plan(made, as_json=as_json)
        return
    if len(folders) > 2 or (len(folders) == 1 and options["good"] is None):
        raise UsageError("Give SRC and DST; SRC may be left out with --good.")
    *source, destination = folders
    result = convert_folder(
        source[0] if source else None,
        destination,
        to="3cad",
        progress=True,
        **_decided(options),
    )
    _print(result, as_json=as_json)


def _write_corrections(
    source: Path, out: Path, root: Path, options: dict[str, Any], *, as_json: bool
) -> None:
    from threecad.dataset.scanning import scan
    from threecad.formats.corrections import write_corrections

    decided = _decided(options)
    kept = {name: decided[name] for name in ("from_", "mask_rule", "decisions", "workers")}
    errata = write_corrections(source, scan(root), out, **kept)
    if as_json:
        print_json({"errata": str(out), "entries": [e.to_dict() for e in errata.entries]})
        return
    click.echo(f"{out}: {len(errata.entries)} corrections of {root}.")
    for entry in errata.entries:
        click.echo(f"  {entry.id}: {entry.action} ({entry.reason})")


def _print(result: Conversion, *, as_json: bool) -> None:
    """Print what was done."""
    if as_json:
        print_json(result.to_dict())
        return
    why = f" ({result.detected})" if result.detected else ""
    click.echo(f"Read {result.source} as {result.from_format}{why}.")
    for category, counts in result.counts.items():
        numbers = ", ".join(f"{number} {kind}" for kind, number in counts.items())
        click.echo(f"  {category}: {numbers}")
    click.echo(f"Images: {_listed(result.images)}.")
    if result.masks:
        click.echo(f"Masks by rule: {_listed(result.masks)}.")
    else:
        click.echo("Masks: none, so pixel figures are undefined for these images.")
    click.echo(f"Account: {result.account}.")
    for finding in result.findings:
        click.echo(f"Found: {name_flags(finding)}")
    if result.errata:
        click.echo(f"Corrected by errata {result.errata[:12]}.")
    if result.notes:
        click.echo(f"Notes: {_listed(result.notes)}.")
    click.echo(f"Wrote {result.destination} as {result.to_format}.")


_OF_WRITING = ("placement", "force")


def _of_plan(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in _OF_WRITING}


def _print_plan(made: Plan, *, as_json: bool) -> None:
    """Print what would be made of a folder."""
    if as_json:
        print_json(made.to_dict())
        return
    why = f" ({made.detected})" if made.detected else ""
    click.echo(f"{made.source} is read as {made.from_format}{why}. Nothing is written.")
    for place, counts in made.types.items():
        click.echo(f"  {place}: {_listed(counts)}")
    click.echo(f"Masks by rule: {_listed(made.masks)}.")
    click.echo(f"Account: {made.account}.")
    for finding in made.findings:
        click.echo(f"Found: {name_flags(finding)}")
    for item in made.examples:
        click.echo(f"Example: {item.image} → {item.mask} ({item.defect_type})")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items()) or "none"
