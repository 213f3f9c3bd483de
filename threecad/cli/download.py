"""``threecad download`` and ``cite``: get the dataset, name its authors."""

from __future__ import annotations

from pathlib import Path

import click

from threecad.cli.group import category_option, examples, force_option, workers_option


@click.command(
    epilog=examples(
        "threecad download",
        "threecad download --root data --category Copper_Stator --keep-archive",
        "threecad download --root data --source 3CAD.zip",
    )
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the category folders.  [default: THREECAD_ROOT, or your data folder]",
)
@click.option(
    "--source",
    default="drive",
    show_default=True,
    metavar="SOURCE",
    help="drive, hf:OWNER/NAME[@REVISION], https://… or the path of a zip.",
)
@click.option(
    "--edition",
    type=click.Choice(["english", "pinyin"]),
    default="english",
    show_default=True,
    help="Spelling of the defect names; for --source drive.",
)
@category_option
@click.option("--sha256", metavar="HEX", help="Refuse an archive that has another SHA-256.")
@click.option("--keep-archive", is_flag=True, help="Keep the archive after unpacking it.")
@click.option("--no-extract", is_flag=True, help="Get the archive, but do not unpack it.")
@click.option("--textures", is_flag=True, help="Get the DTD textures for training, too.")
@click.option("--no-wait", is_flag=True, help="Refuse when another download is under way.")
@force_option
@workers_option
def download(
    root: Path | None,
    source: str,
    edition: str,
    categories: tuple[str, ...],
    sha256: str | None,
    keep_archive: bool,
    no_extract: bool,
    textures: bool,
    no_wait: bool,
    force: bool,
    workers: int | None,
) -> None:
    """Get 3CAD and unpack it; print where it is.

    Without options it comes from the authors' Google Drive into your data folder, where every other
    command looks for it. Interrupted? The same command goes on where it stopped.
    """
    from threecad import fetching

    result = fetching.download(
        root,
        source=source,
        edition=edition,
        categories=categories or None,
        sha256=sha256,
        keep_archive=keep_archive,
        extract=not no_extract,
        textures=textures,
        force=force,
        wait=not no_wait,
        workers=workers,
    )
    click.echo(result)


@click.command(epilog=examples("threecad cite"))
def cite() -> None:
    """Print what to cite, as BibTeX."""
    from threecad.dataset.catalog import CITATIONS

    click.echo("\n\n".join(CITATIONS.values()))
