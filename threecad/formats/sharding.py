"""Many images in few files of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from threecad.formats.items import Item

__all__ = ["MASK_ESTIMATE", "plan_shards"]

MASK_ESTIMATE = 16 << 10
"""Bytes that a mask is reckoned with before it is encoded."""


def plan_shards(
    items: Sequence[Item], key: Callable[[Item], str], shard_bytes: int
) -> Iterator[tuple[str, int, int, list[Item]]]:
    """Yield the shards: their group, their number in it, how many it has, and their items.

    Items of one group follow each other; none is larger than ``shard_bytes`` unless a single image
    is.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    for group, members in sorted(groups.items()):
        shards: list[list[Item]] = [[]]
        filled = 0
        for item in members:
            size = item.image.size + MASK_ESTIMATE
            if shards[-1] and filled + size > shard_bytes:
                shards.append([])
                filled = 0
            shards[-1].append(item)
            filled += size
        for number, shard in enumerate(shards):
            yield group, number, len(shards), shard
