"""Is this tree complete and sound? Structure, counts, files, masks and the manifest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from threecad.dataset.catalog import find_category
from threecad.dataset.editions import looks_like_pinyin
from threecad.dataset.file_checks import check_images, check_masks
from threecad.dataset.findings import Finding, FindingsReport
from threecad.dataset.samples import Index, relative_path
from threecad.dataset.scanning import category_folders, is_stray, scan
from threecad.errors import UsageError
from threecad.images.facts import ImageFacts, inspect_file, inspect_header, inspect_masks
from threecad.images.hashing import hash_files
from threecad.system import parallel
from threecad.system.locations import is_marked, own_folder
from threecad.verification.expectations import check_completeness, check_counts, measure
from threecad.verification.manifest import (
    ManifestRow,
    check_suffix,
    compare,
    read_manifest,
    write_manifest,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator, Mapping

    from threecad.images.facts import MaskFacts
    from threecad.images.masks import MaskRule

__all__ = ["Expectation", "verify"]

Expectation = Literal["auto", "published", "none"]

_SUBFOLDERS = frozenset({"train", "val", "test", "ground_truth"})


def verify(
    root: str | os.PathLike[str] | None = None,
    *,
    expect: Expectation = "auto",
    deep: bool = False,
    manifest: str | os.PathLike[str] | None = None,
    renew: bool = False,
    mask_rule: MaskRule | None = None,
    categories: Collection[str] | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    progress: bool = False,
) -> FindingsReport:
    """Check a tree against the layout, the known counts, its own files and a manifest.

    Masks are always decoded. Images are opened (header and end of file) or, with ``deep``, read and
    decoded to the last byte whatever any cache says.

    Args:
        root: The tree; the default root if ``None``.
        expect: Compare counts with the archive's, and with the published table where those are
            unknown: ``"auto"`` (differences are warnings, and a sample or an imported tree is not
            compared), ``"published"`` (differences are errors) or ``"none"``.
        deep: Decode every image.
        manifest: Table of all files (``.csv`` or ``.parquet``): compared if it is there, else
            written, provided that no other check found an error. With ``deep`` the default is
            ``ROOT/.threecad/manifest.csv``. Without ``deep`` sizes are compared, not hashes.
        renew: Write the manifest anew instead of comparing.
        mask_rule: Decode all masks by this rule; see ``threecad.decode_mask``.
        categories: Only these categories.
        workers: Worker processes.
        cluster: Where to run them, if not here; see ``threecad.system.parallel.map``.
        progress: Show progress bars on stderr.

    Returns:
        The findings. ``summary`` holds what was counted per category, the mask rules used, and what
        became of the manifest.

    Raises:
        LayoutError: If ``root`` holds no such tree.
        UsageError: If ``expect``, ``mask_rule``, a category or ``manifest``'s suffix is unknown.
    """
    if expect not in get_args(Expectation):
        raise UsageError(
            f"expect is {expect!r}; expected one of {', '.join(get_args(Expectation))}."
        )
    if manifest is not None:
        check_suffix(manifest)
    index = scan(root, categories=categories)
    run = _Run(workers, cluster, progress)
    images = _inspect_images(index, deep, run)
    masks = inspect_masks(
        index.root,
        [sample.mask for sample in index if sample.mask],
        rule=mask_rule,
        trust_cache=not deep,
        **run.options("checking masks"),
    )
    figures = measure(index, images, masks)
    report = FindingsReport(str(index.root), list(index.findings))
    report.findings += _check_names(index)
    report.findings += check_images(index, images)
    report.findings += check_masks(index, images, masks)
    expected = _expectation(index.root, expect)
    if expected != "none":
        report.findings += check_counts(figures, errors=expected == "published")
        if categories is None:
            report.findings += check_completeness(index)
    report.summary = {
        "images": len(index),
        "masks": len(masks),
        "deep": deep,
        "expect": expected,
        "categories": {figure.counts.name: figure.to_dict() for figure in figures},
        "mask_rule": mask_rule,
        "mask_rules": dict(Counter(fact.rule for fact in masks.values() if fact.rule)),
    }
    if manifest is None and deep:
        manifest = own_folder(index.root) / "manifest.csv"
    if manifest is not None:
        _check_manifest(report, index, images, masks, Path(manifest), renew, categories)
    return report


@dataclass(frozen=True)
class _Run:
    """Where and how visibly the work is done."""

    workers: int | None
    cluster: str | None
    progress: bool

    def options(self, description: str) -> dict[str, Any]:
        return {
            "workers": self.workers,
            "cluster": self.cluster,
            "description": description if self.progress else None,
        }


def _inspect_images(index: Index, deep: bool, run: _Run) -> dict[Path, ImageFacts]:
    paths = [sample.image for sample in index]
    if deep:
        facts = parallel.map(inspect_file, paths, **run.options("decoding images"))
    else:
        facts = parallel.map(inspect_header, paths, batch_size=64, **run.options("opening images"))
    return dict(zip(paths, facts, strict=True))


def _expectation(root: Path, expect: Expectation) -> Expectation:
    """Resolve ``auto``: a sample or an imported tree has no published counts."""
    return "none" if expect == "auto" and is_marked(root) else expect


# Names


def _check_names(index: Index) -> Iterator[Finding]:
    folders = category_folders(index.root)
    yield from _check_children(
        index.root,
        index.root,
        expected={folder.name for folder in folders.values()},
        advice="Expected category folders, each with train, test and ground_truth.",
    )
    for name in index.categories:
        published = find_category(name)
        if published and published.name != name:
            yield Finding(
                "category-spelling",
                "warning",
                f"The folder {name} is spelled {published.name} in the published data.",
                path=name,
                advice="Rename the folder if ids are to agree with other people's.",
            )
        yield from _check_category(index.root, folders[name])
    types = index.defect_types
    if types and all(looks_like_pinyin(name) for name in types):
        yield Finding(
            "edition-pinyin",
            "info",
            f"The defect types ({', '.join(types[:4])}, …) are pinyin: this is the older edition.",
            advice="Results per defect type carry other names than those of the English edition; "
            "`threecad download --edition english` gets that one.",
        )


def _check_category(root: Path, folder: Path) -> Iterator[Finding]:
    yield from _check_children(
        root, folder, expected=_SUBFOLDERS, advice="Expected train, test and ground_truth."
    )
    for part in sorted(_SUBFOLDERS):
        if (folder / part).is_dir():
            yield from _check_children(
                root,
                folder / part,
                expected={child.name for child in (folder / part).iterdir() if child.is_dir()},
                advice="Expected folders: good, and one for each defect type.",
            )


def _check_children(
    root: Path, folder: Path, *, expected: Collection[str], advice: str
) -> Iterator[Finding]:
    """Name what stands in a folder and is ignored: neither expected nor stray."""
    for child in sorted(folder.iterdir()):
        if child.name in expected or is_stray(child.name):
            continue
        kind = "folder" if child.is_dir() else "file"
        yield Finding(
            f"{kind}-unexpected",
            "warning" if kind == "folder" else "info",
            f"{relative_path(child, root)} is not part of the layout and is ignored.",
            path=relative_path(child, root),
            advice=advice,
        )


# Manifest


def _check_manifest(
    report: FindingsReport,
    index: Index,
    images: Mapping[Path, ImageFacts],
    masks: Mapping[Path, MaskFacts],
    path: Path,
    renew: bool,
    categories: Collection[str] | None,
) -> None:
    facts: dict[Path, ImageFacts | MaskFacts] = {**images, **masks}
    if path.exists() and not renew:
        kept = tuple(f"{name}/" for name in categories or ())
        rows = _rows(index.root, facts)
        report.findings += compare(
            read_manifest(path), rows, concerns=lambda name: not kept or name.startswith(kept)
        )
        hashed = all(fact.sha256 for fact in facts.values())
        by = "size and SHA-256" if hashed else "size (masks: SHA-256 too; `deep=True`: all)"
        report.summary["manifest"] = {"path": str(path), "compared": by, "files": len(facts)}
    elif not report.ok:
        report.summary["manifest"] = {"path": str(path), "written": False, "files": len(facts)}
        report.findings.append(
            Finding(
                "manifest-not-written",
                "info",
                f"{path} was not written: a manifest of a tree with errors would make them last.",
            )
        )
    else:
        digests = hash_files(index.root, [path for path in facts if not facts[path].sha256])
        write_manifest(path, _rows(index.root, facts, digests))
        report.summary["manifest"] = {"path": str(path), "written": True, "files": len(facts)}


def _rows(
    root: Path,
    facts: Mapping[Path, ImageFacts | MaskFacts],
    digests: Mapping[Path, str] | None = None,
) -> list[ManifestRow]:
    return [
        ManifestRow(
            relative_path(path, root),
            fact.length,
            fact.sha256 or (digests or {}).get(path, ""),
            fact.width,
            fact.height,
        )
        for path, fact in facts.items()
    ]
