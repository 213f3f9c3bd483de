"""``threecad doctor`` and ``threecad cache``: this machine and what we keep on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from threecad.cli.group import examples, json_option, print_json, root_argument

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=examples("threecad doctor 3cad", "threecad doctor --json"))
@root_argument
@json_option
def doctor(root: Path | None, as_json: bool) -> None:
    """Print what a bug report needs: versions, disk, GPU, the state of ROOT, weights, settings."""
    from threecad.diagnosis import diagnose

    facts = diagnose(root)
    if as_json:
        print_json(facts)
        return
    for section, content in facts.items():
        click.echo(f"{section}:")
        for line in _lines(content, "  "):
            click.echo(line)


def _lines(content: dict[str, Any], indent: str) -> list[str]:
    from threecad.system.disk import format_bytes

    lines = []
    for name, value in content.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:" if value else f"{indent}{name}: none"]
            lines += _lines(value, indent + "  ")
        elif isinstance(value, int) and name.rpartition("_")[2] == "bytes":
            lines.append(f"{indent}{name.removesuffix('_bytes')}: {format_bytes(value)}")
        elif isinstance(value, list):
            lines.append(f"{indent}{name}: {', '.join(map(str, value)) or 'none'}")
        else:
            lines.append(f"{indent}{name}: {'not there' if value is None else value}")
    return lines


@click.group(epilog=examples("threecad cache list 3cad", "threecad cache clear 3cad"))
def cache() -> None:
    """List or clear what threecad keeps to be faster the next time."""


@cache.command("list", epilog=examples("threecad cache list 3cad", "threecad cache list --json"))
@root_argument
@json_option
def list_(root: Path | None, as_json: bool) -> None:
    """List the files of your cache, and of the cache of ROOT, largest first."""
    from threecad.system.caching import cache_limit, list_caches
    from threecad.system.disk import format_bytes
    from threecad.system.locations import default_root, user_cache

    files = list_caches(root or default_root())
    total = sum(file.bytes for file in files)
    if as_json:
        print_json({"bytes": total, "files": [file.to_dict() for file in files]})
        return
    for file in files:
        click.echo(f"{format_bytes(file.bytes):>9}  {file.used[:16]}  {file.path}")
    click.echo(
        f"{format_bytes(total)} in {len(files)} files. "
        f"{user_cache()} may hold {format_bytes(cache_limit())} (THREECAD_CACHE_LIMIT, in GB)."
    )


@cache.command("clear", epilog=examples("threecad cache clear 3cad"))
@root_argument
def clear(root: Path | None) -> None:
    """Remove your cache and the cache of ROOT. Nothing is lost but time."""
    from threecad.system.caching import clear_caches
    from threecad.system.disk import format_bytes
    from threecad.system.locations import default_root

    click.echo(f"{format_bytes(clear_caches(root or default_root()))} freed.")
