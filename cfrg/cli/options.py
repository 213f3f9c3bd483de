"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["computing_options", "listening_options", "runtime_option", "tile_options"]

Function = TypeVar("Function", bound="Callable[..., Any]")


def tile_options(function: Function) -> Function:
    """Add ``--tile`` and ``--overlap``."""
    function = click.option(
        "--overlap",
        type=click.IntRange(min=0),
        metavar="K",
        help="Pixels that neighbouring tiles share.  [default: the model's, or a quarter of S]",
    )(function)
    return click.option(
        "--tile",
        type=click.IntRange(min=0),
        metavar="S",
        help="Cut images into tiles of S × S of their pixels; 0: whole.  [default: the model's]",
    )(function)


def listening_options(port: int, reached: str) -> Callable[[Function], Function]:
    """Return what adds ``--host``, ``--port`` and ``--allow-host``.

    Args:
        port: The default.
        reached: By whom, or what, is reached by a name.
    """
    options = (
        click.option(
            "--allow-host",
            "allow_hosts",
            multiple=True,
            metavar="NAME",
            help=f"Name by which {reached}, beside localhost and --host; repeatable.",
        ),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=port,
            show_default=True,
            help="Port to listen on; 0 takes a free one.",
        ),
        click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Address to listen on; 0.0.0.0 lets the whole network in.",
        ),
    )

    def add(function: Function) -> Function:
        for option in options:
            function = option(function)
        return function

    return add


def runtime_option(function: Function) -> Function:
    """Add ``--runtime``."""
    return click.option(
        "--runtime",
        type=click.Choice(["torch", "auto", "onnx", "openvino"]),
        default="torch",
        show_default=True,
        help="What the network runs in; exported once, maps equal up to rounding.",
    )(function)


def computing_options(function: Function) -> Function:
    """Add ``--batch-size``, ``--workers`` and ``--device``."""
    for option in (
        click.option(
            "--device",
            metavar="D",
            help="cpu, cuda, …, of OpenVINO gpu  [default: cuda if there is one]",
        ),
        click.option(
            "--workers",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            metavar="W",
            help="Processes that read images; 0 reads them in threads.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            default=16,
            show_default=True,
            help="Images, or tiles, at a time.",
        ),
    ):
        function = option(function)
    return function
