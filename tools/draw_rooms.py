"""Draw the rooms of both packages and the imports between them: ``python tools/draw_rooms.py``.

Every arrow points down: a room uses what is below it and knows nothing of what is above. Arrows to
``errors`` and ``version``, which all use, are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "architecture"))

from laws import DOORS, ORDER, find_imports, find_modules, room_of  # noqa: E402

DEFAULT = ROOT / "docs" / "images" / "rooms.svg"
EVERYWHERE = {"threecad.errors", "threecad.version"}
WIDTH, HEIGHT = 1.5, 0.5
UP, DOWN, BOX = "#d55e00", "#56779a", "#eef2f6"


def place_rooms(package: str, offset: float) -> dict[str, tuple[float, float]]:
    """Return the centre of every room, floor by floor from the ground up."""
    places = {}
    for number, rooms in enumerate(ORDER[package]):
        shown = [room for room in rooms if room not in DOORS]
        for position, room in enumerate(shown):
            x = offset + (position - (len(shown) - 1) / 2) * (WIDTH + 0.25)
            places[f"{package}.{room}"] = (x, number * 1.15)
    return places


def count_arrows() -> Counter[tuple[str, str]]:
    """Return how many imports lead from room to room inside a package."""
    arrows: Counter[tuple[str, str]] = Counter()
    for module, targets in find_imports(ROOT).items():
        for target in targets:
            here, there = room_of(module), room_of(target)
            if module in ORDER or here == there or here.split(".")[0] != there.split(".")[0]:
                continue
            arrows[here, there] += 1
    return arrows


def draw(path: Path) -> int:
    """Draw the graph to ``path``; return how many arrows point upwards or sideways."""
    places = place_rooms("threecad", 0) | place_rooms("cfrg", 9.6)
    modules = Counter(room_of(name) for name in find_modules(ROOT))
    figure, axes = plt.subplots(figsize=(15, 8.2))
    wrong = 0
    for (here, there), number in sorted(count_arrows().items()):
        if here not in places or there not in places or there in EVERYWHERE:
            continue
        (x, y), (u, v) = places[here], places[there]
        upwards = v >= y
        wrong += upwards
        axes.annotate(
            "",
            (u, v + HEIGHT / 2),
            (x, y - HEIGHT / 2),
            arrowprops={
                "arrowstyle": "-|>",
                "color": UP if upwards else DOWN,
                "linewidth": 0.5 + 0.3 * min(number, 8),
                "alpha": 1 if upwards else 0.45,
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
    for room, (x, y) in places.items():
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        axes.add_patch(
            FancyBboxPatch(
                corner,
                WIDTH,
                HEIGHT,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=BOX,
                edgecolor="#33475b",
                zorder=3,
            )
        )
        name = room.partition(".")[2]
        count = modules[room]
        axes.text(x, y + 0.05, name, ha="center", va="center", fontsize=10, zorder=4)
        files = f"{count} file{'s' * (count > 1)}"
        axes.text(x, y - 0.14, files, ha="center", va="center", fontsize=6.5, zorder=4)
    for package, x in (("threecad", 0), ("cfrg", 9.6)):
        top = max(y for room, (_, y) in places.items() if room.startswith(package))
        axes.text(x, top + 0.75, package, ha="center", fontsize=14, weight="bold")
    axes.set_aspect("equal")
    axes.axis("off")
    axes.autoscale_view()
    figure.savefig(
        path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else {}
    )
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DEFAULT)
    arguments = parser.parse_args()
    plt.rcParams["svg.hashsalt"] = "rooms"
    wrong = draw(arguments.out)
    print(f"{arguments.out}: {wrong} arrows upwards or sideways")


if __name__ == "__main__":
    main()
