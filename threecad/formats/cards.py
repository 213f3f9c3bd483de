"""The card of the dataset on the Hugging Face Hub: YAML for machines, Markdown for people."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from threecad.dataset.catalog import CATEGORIES, CITATIONS, LICENSE_NOTICE
from threecad.dataset.scanning import find_root
from threecad.system.locations import own_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from threecad.formats.items import Item

__all__ = [
    "HOMEPAGE",
    "TITLES",
    "Origin",
    "dataset_card",
    "describe_errata",
    "find_origin",
    "introduce",
]

Origin = Literal["3cad", "sample", "other"]
"""Whose images they are: 3CAD's, drawn by ``threecad sample``, or somebody else's."""

TITLES: dict[Origin, str] = {
    "3cad": "3CAD: surface defects on 3C parts",
    "sample": "A procedural miniature of 3CAD",
    "other": "Images in the layout of 3CAD",
}

HOMEPAGE = "https://github.com/EnquanYang2022/3CAD"
_PAPER = "https://arxiv.org/abs/2502.05761"
_LICENSE = {"license": "other", "license_name": "none-stated", "license_link": HOMEPAGE}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


def dataset_card(
    items: Sequence[Item],
    origin: Origin,
    *,
    figures: Iterable[str] = (),
    statistics: str = "",
    errata: str | None = None,
) -> str:
    """Return the ``README.md`` of a folder in the ``parquet`` format.

    Args:
        items: The images in it.
        origin: Whose images they are.
        figures: Paths of pictures to show, relative to the card.
        statistics: A Markdown table of defect statistics.
        errata: SHA-256 of the corrections that were applied.
    """
    import yaml

    head = yaml.safe_dump(_metadata(items, origin), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{head}---\n\n# {TITLES[origin]}",
        introduce(items, origin, errata=errata),
        "\n\n".join(f"![{name}]({name})" for name in figures),
        "## Splits\n\n" + _table(items),
        statistics and f"## Defects\n\n{statistics}",
        "## Columns\n\n" + _COLUMNS,
        "## Use\n\n" + _USE,
    ]
    if origin == "3cad":
        parts += [
            f"## Licence\n\n{LICENSE_NOTICE}",
            f"## Citation\n\n```bibtex\n{CITATIONS['3CAD']}\n```",
        ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _metadata(items: Sequence[Item], origin: Origin) -> dict[str, Any]:
    categories = sorted({item.category for item in items})
    splits = [s for s in ("train", "val", "test") if any(item.split == s for item in items)]
    of_category = {
        name: [s for s in splits if any(i.split == s for i in items if i.category == name)]
        for name in categories
    }
    return {
        "pretty_name": TITLES[origin],
        **(_LICENSE if origin == "3cad" else {"license": "unknown"}),
        "task_categories": ["image-segmentation", "image-classification"],
        "tags": ["anomaly-detection", "defect-detection", "industrial"],
        "size_categories": [next((n for size, n in _SIZES if len(items) < size), "n>1M")],
        "configs": [
            {
                "config_name": "all",
                "default": True,
                "data_files": [_data_files("*", split) for split in splits],
            },
            *(
                {
                    "config_name": name,
                    "data_files": [_data_files(name, split) for split in of_category[name]],
                }
                for name in categories
            ),
        ],
    }


def _data_files(category: str, split: str) -> dict[str, str]:
    name = "validation" if split == "val" else split
    return {"split": name, "path": f"{category}/{name}-*.parquet"}


def find_origin(root: Path | None, items: Iterable[Item]) -> Origin:
    """Return whose images they are: drawn ones carry a marker, 3CAD's are known by their parts.

    Args:
        root: The tree they come from; ``None`` if they come from another layout.
        items: The images.
    """
    if root is not None and (own_folder(find_root(root)) / "sample.json").exists():
        return "sample"
    return "3cad" if {item.category for item in items} <= set(CATEGORIES) else "other"


def introduce(items: Sequence[Item], origin: Origin, *, errata: str | None = None) -> str:
    """Return a sentence or two on what the images are, and which corrections were applied."""
    defective = sum(item.label for item in items)
    count = f"{len(items):,} images, {defective:,} of them defective, with pixel masks"
    said = {
        "sample": f"{count}: a procedural miniature of 3CAD, drawn by threecad for trying things "
        "out. None of it is a photograph.",
        "other": f"{count}, written by threecad. The images are not those of 3CAD.",
        "3cad": f"{count}, from production lines of aluminium, copper and iron parts. Converted "
        f"with threecad from [3CAD]({HOMEPAGE}) ([paper]({_PAPER})).",
    }[origin]
    return said if errata is None else f"{said} {describe_errata(errata)}"


def describe_errata(digest: str) -> str:
    """Return the sentence that says by which corrections the data differ from what was shipped."""
    return f"Corrected by errata with SHA-256 {digest}."


def _table(items: Sequence[Item]) -> str:
    counts = Counter((i.category, i.split, "defective" if i.label else "good") for i in items)
    kinds = [
        (split, kind)
        for split in ("train", "val", "test")
        for kind in ("good", "defective")
        if any(key[1:] == (split, kind) for key in counts)
    ]
    lines = [
        "| category | " + " | ".join(f"{split} {kind}" for split, kind in kinds) + " |",
        "|---" * (len(kinds) + 1) + "|",
    ]
    lines += [
        f"| {name} | " + " | ".join(f"{counts[name, s, k]:,}" for s, k in kinds) + " |"
        for name in sorted({item.category for item in items})
    ]
    return "\n".join(lines)


_COLUMNS = """\
| column | content |
|---|---|
| `image_id` | `<category>/<split>/<defect_type>/<stem>` as in the tree |
| `image` | the image as it was shipped |
| `mask` | 0 and 255, one channel; null for a good image |
| `label` | `normal` or `anomalous` |
| `category` | the part |
| `defect_type` | the folder the image stands in; `good` for a good one |
| `defect_types` | the types seen in it; empty for a good image and where the folder does not tell |
| `num_regions` | 8-connected defect regions |
| `area_ratio` | defect pixels over image pixels |
| `aspect_ratio` | long over short side of the smallest rectangle round all defect pixels |
| `region_areas`, `region_boxes` | pixels and `[x, y, width, height]` of each region |"""

_USE = """\
```python
from datasets import load_dataset

everything = load_dataset("OWNER/NAME")  # or the path of this folder
part = load_dataset("OWNER/NAME", "CATEGORY", split="test", streaming=True)
```"""
