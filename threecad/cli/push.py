"""``threecad push``: a tree onto the Hugging Face Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from threecad.cli.group import (
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


@click.command(
    epilog=examples(
        "threecad push me/3cad-private 3cad --dry-run",
        "threecad push me/stator 3cad --config Copper_Stator --dry-run",
    )
)
@click.argument("repository", metavar="OWNER/NAME")
@selection_options(category="--config")
@mask_rule_option
@click.option(
    "--private/--public",
    default=True,
    help="Who may see it.  [default: private]",
)
@click.option("--yes", is_flag=True, help="Do not ask before something becomes public.")
@click.option("--dry-run", is_flag=True, help="Prepare the files and list them; send nothing.")
@workers_option
@json_option
def push(
    repository: str,
    *,
    selection: Selection,
    mask_rule: MaskRule | None,
    private: bool,
    yes: bool,
    dry_run: bool,
    workers: int | None,
    as_json: bool,
) -> None:
    """Upload ROOT to the Hugging Face Hub, with its card, as OWNER/NAME.

    The repository is private unless you say otherwise: the dataset states no licence. Log in first
    with `hf auth login`. After an interruption run the same command again.
    """
    from threecad.dataset.catalog import LICENSE_NOTICE
    from threecad.hub.publishing import prepare, publish
    from threecad.system.disk import format_bytes

    publication = prepare(
        repository,
        **selection.arguments(),
        mask_rule=mask_rule,
        private=private,
        workers=workers,
        progress=True,
    )
    if as_json:
        print_json(publication.to_dict())
    else:
        for name, size in publication.files.items():
            click.echo(f"{format_bytes(size):>9}  {name}")
        kind = "private" if private else "public"
        click.echo(f"{format_bytes(publication.length):>9}  in all, for {repository} ({kind})")
    if dry_run:
        click.echo(f"Nothing was sent. The files are in {publication.folder}.", err=True)
        return
    if not private and not yes:
        click.echo(LICENSE_NOTICE, err=True)
        click.confirm("Publish these images for everybody?", abort=True, err=True)
    url = publish(publication, license_settled=not private)
    click.echo(f"Uploaded to {url}", err=as_json)
