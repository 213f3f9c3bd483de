"""A 3CAD tree onto the Hugging Face Hub: looked at first, private unless told otherwise."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from threecad.dataset.catalog import LICENSE_NOTICE
from threecad.dataset.scanning import scan
from threecad.errors import DownloadError, UsageError
from threecad.fetching.hub_source import is_network_error
from threecad.formats.cards import dataset_card, find_origin
from threecad.formats.conversion import convert
from threecad.formats.items import Item
from threecad.images.files import read_image, write_png
from threecad.images.masks import read_mask
from threecad.pages.figures import outline
from threecad.system import atomic
from threecad.system.locations import OWN_FOLDER, user_cache
from threecad.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Collection
    from pathlib import Path

    from threecad.dataset.samples import Index
    from threecad.images.masks import MaskRule

__all__ = ["Publication", "prepare", "publish"]

_EXAMPLES = "examples.png"
_PANEL = 256
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Publication:
    """What is to go up.

    Attributes:
        repository: ``OWNER/NAME``.
        folder: Where the files are prepared.
        private: Whether only those whom its owner lets in see the repository.
        files: Size in bytes of every file, by its path in the repository.
        errata: SHA-256 of the corrections that were applied, if any.
    """

    repository: str
    folder: Path
    private: bool
    files: dict[str, int]
    errata: str | None = None

    @property
    def length(self) -> int:
        """Number of bytes of all files."""
        return sum(self.files.values())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "schema": 1,
            "repository": self.repository,
            "folder": str(self.folder),
            "private": self.private,
            "size": self.length,
            "errata": self.errata,
            "files": self.files,
        }


def prepare(
    repository: str,
    root: str | os.PathLike[str] | None = None,
    *,
    categories: Collection[str] = (),
    split_file: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    errata: str | os.PathLike[str] | None = None,
    mask_rule: MaskRule | None = None,
    private: bool = True,
    workers: int | None = None,
    progress: bool = False,
) -> Publication:
    """Write what is to go up, in the ``parquet`` format, into the user's cache. Nothing is sent.

    The same data are prepared once: a later call, after an upload that broke off, takes what is
    there.

    Args:
        repository: ``OWNER/NAME``.
        root: The tree; ``threecad.system.locations.default_root()`` if ``None``.
        categories: Only these, each a configuration; all of them when empty.
        split_file: Take the splits from this file.
        fold: Held-out fold, for a k-fold split file.
        errata: Apply the corrections in this file; the card says so.
        mask_rule: Binarise all masks by this rule; see ``threecad.decode_mask``.
        private: Whether the repository is to be private.
        workers: Number of processes; ``None`` is one per core.
        progress: Show progress on stderr.

    Raises:
        UsageError: If ``repository`` is no such name.
        LayoutError: If there is no tree.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(f"{repository!r} is no repository. Expected OWNER/NAME.")
    index = scan(
        root, categories=categories or None, split_file=split_file, errata=errata, fold=fold
    )
    folder = user_cache() / "push" / _digest(index, mask_rule)
    if not (folder / _EXAMPLES).exists():
        convert(
            index.root,
            folder,
            from_="3cad",
            to="parquet",
            categories=categories,
            split_file=split_file,
            fold=fold,
            errata=errata,
            mask_rule=mask_rule,
            force=True,
            workers=workers,
            progress=progress,
        )
        items = [Item.of_sample(sample) for sample in index]
        card = dataset_card(
            items,
            find_origin(index.root, items),
            figures=[_EXAMPLES],
            statistics=_tabulate(folder),
            errata=index.errata_digest,
        )
        atomic.write_text(folder / "README.md", card)
        write_png(folder / _EXAMPLES, draw_examples(index, mask_rule))
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and OWN_FOLDER not in path.parts
    }
    return Publication(repository, folder, private, files, index.errata_digest)


def publish(publication: Publication, *, license_settled: bool = False) -> str:
    """Create the repository and upload; return its address.

    Called again after an interruption, it uploads what is missing.

    Args:
        publication: From ``prepare``.
        license_settled: Say that you may publish these images. Needed for a public repository.

    Raises:
        UsageError: If the repository would be public without ``license_settled``, or is public
            though a private one was asked for.
        DownloadError: If the Hub cannot be reached or refuses.
    """
    if not publication.private and not license_settled:
        raise UsageError(f"{LICENSE_NOTICE} Leave out `private=False`, or settle that first.")
    import huggingface_hub

    api: Any = huggingface_hub.HfApi()
    name = {"repo_id": publication.repository, "repo_type": "dataset"}
    try:
        url = api.create_repo(**name, private=publication.private, exist_ok=True)
        if publication.private and not api.repo_info(**name).private:
            raise UsageError(
                f"{publication.repository} is there already and public. Make it private in its "
                "settings, choose another name, or use `private=False`."
            )
        # From version 2 upload_folder goes on where it stopped; before, another function did.
        resumes = int(huggingface_hub.__version__.split(".")[0]) >= 2
        upload = api.upload_folder if resumes else api.upload_large_folder
        upload(**name, folder_path=publication.folder, ignore_patterns=[f"{OWN_FOLDER}/**"])
    except Exception as error:
        if not is_network_error(error):
            raise
        raise DownloadError(
            f"{publication.repository} could not be written: {error}. Log in with `hf auth login` "
            "and a token that may write, and run the same command again: it goes on where it "
            "stopped."
        ) from error
    return str(url)


def draw_examples(
    index: Index, rule: MaskRule | None = None
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a picture of each category, ``(H, W, 3) uint8``: one defect, outlined."""
    panels = []
    for category in index.categories:
        samples = [sample for sample in index if sample.category == category]
        sample = next((s for s in samples if s.mask is not None), samples[0])
        image = read_image(sample.image)
        if sample.mask is not None:
            image = outline(image, read_mask(sample.mask, rule=rule))
        scale = _PANEL / max(image.shape[:2])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        panel = np.full((_PANEL, _PANEL, 3), 255, np.uint8)
        panel[: small.shape[0], : small.shape[1]] = small
        panels.append(panel)
    columns = min(4, len(panels))
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    rows = [np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    return np.vstack(rows)


def _tabulate(folder: Path) -> str:
    """Return the region statistics of the shards as a table, a row for each category."""
    rows = [
        "| category | defective | regions per image | defect area, median | defect area, range |",
        "|---|---|---|---|---|",
    ]
    for category in sorted(path for path in folder.iterdir() if any(path.glob("*.parquet"))):
        tables = [
            pq.read_table(path, columns=["num_regions", "area_ratio"])
            for path in sorted(category.glob("*.parquet"))
        ]
        table = pa.concat_tables(tables).drop_null()
        counts = table.column("num_regions").to_numpy()
        ratios = 100 * table.column("area_ratio").to_numpy()
        figures = "– | – | –"
        if len(counts):
            figures = (
                f"{counts.min()}–{counts.max()} | {np.median(ratios):.3g} % | "
                f"{ratios.min():.3g}–{ratios.max():.3g} %"
            )
        rows.append(f"| {category.name} | {len(counts):,} | {figures} |")
    return "\n".join(rows)


def _digest(index: Index, rule: MaskRule | None) -> str:
    """Return a digest of what decides the prepared files."""
    digest = hashlib.sha256(f"{__version__} {index.errata_digest} {rule}".encode())
    for sample in index:
        item = Item.of_sample(sample)
        mask = item.mask.stamp() if item.mask is not None else ""
        digest.update(f"\n{item.id}|{item.split}|{item.image.stamp()}|{mask}".encode())
    return digest.hexdigest()[:16]
