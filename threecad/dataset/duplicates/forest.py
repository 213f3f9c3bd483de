"""A minimum spanning forest: which of very many pairs are worth remembering.

A forest of the shortest pairs falls into the same groups as all pairs do, whatever the limit on
their distance (single linkage; Gower and Ross, "Minimum spanning trees and single linkage cluster
analysis", 1969). It has fewer pairs than there are members.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from threecad.system.compiling import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Edges", "Forest"]


@dataclass(frozen=True)
class Edges:
    """Pairs of members, by position, with their distances. All three are arrays of (N,)."""

    i: npt.NDArray[np.int32]
    j: npt.NDArray[np.int32]
    distance: npt.NDArray[np.int16]

    @staticmethod
    def none() -> Edges:
        """Return no pairs."""
        return Edges(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int16))

    def __len__(self) -> int:
        return len(self.i)

    def __add__(self, other: Edges) -> Edges:
        return Edges(
            np.concatenate([self.i, other.i]),
            np.concatenate([self.j, other.j]),
            np.concatenate([self.distance, other.distance]),
        )

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.int64] | slice) -> Edges:
        """Return some of the pairs."""
        return Edges(self.i[which], self.j[which], self.distance[which])

    def sorted(self) -> Edges:
        """Return the pairs by distance, and those of one distance by position."""
        return self.take(np.lexsort((self.j, self.i, self.distance)))


class Forest:
    """The shortest pairs that join what all pairs seen so far join.

    Args:
        count: Number of members.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._edges = Edges.none()

    def add(self, edges: Edges) -> None:
        """Take in more pairs."""
        if len(edges):
            edges = self._edges + edges
            edges = edges.take(np.argsort(edges.distance, kind="stable"))
            self._edges = edges.take(_joining(self._count, edges.i, edges.j))

    def groups(self, largest: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return groups of at most ``largest`` members, under the highest limit that allows them.

        Returns:
            For each member the first one of its group, and whether all pairs seen would put it into
            a larger group.
        """
        group = np.arange(self._count)
        crowded = np.zeros(self._count, np.bool_)
        edges = self._edges
        for end in np.flatnonzero(np.diff(edges.distance, append=np.int16(-1))) + 1:
            first = _first_of_group(self._count, edges.i[:end], edges.j[:end])
            crowded = np.bincount(first, minlength=self._count)[first] > largest
            group = np.where(crowded, group, first)
        return group, crowded


@compiled
def _find(parent: npt.NDArray[np.int64], member: int) -> int:
    while parent[member] != member:
        parent[member] = parent[parent[member]]
        member = parent[member]
    return member


@compiled
def _joining(
    count: int, i: npt.NDArray[np.int32], j: npt.NDArray[np.int32]
) -> npt.NDArray[np.bool_]:
    """Return which pairs, taken in order, join two groups: Kruskal's algorithm."""
    parent = np.arange(count)
    joins = np.zeros(len(i), np.bool_)
    for number in range(len(i)):
        one, other = _find(parent, i[number]), _find(parent, j[number])
        if one != other:
            parent[max(one, other)] = min(one, other)
            joins[number] = True
    return joins


@compiled
def _first_of_group(
    count: int, i: npt.NDArray[np.int32], j: npt.NDArray[np.int32]
) -> npt.NDArray[np.int64]:
    """Return, for each member, the first member that the pairs join it with."""
    parent = np.arange(count)
    for number in range(len(i)):
        one, other = _find(parent, i[number]), _find(parent, j[number])
        parent[max(one, other)] = min(one, other)
    for member in range(count):
        parent[member] = _find(parent, member)
    return parent
