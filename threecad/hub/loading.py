"""``load_dataset("3cad")``: 3CAD as a Hugging Face dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from threecad.hub.hook import NAME, is_on_hub

if TYPE_CHECKING:
    import os

    from threecad.images.masks import MaskRule

__all__ = ["load_dataset"]


def load_dataset(
    path: str = NAME,
    name: str | None = None,
    *,
    split: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    streaming: bool = False,
    split_file: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    errata: str | os.PathLike[str] | None = None,
    with_stats: bool = False,
    mask_rule: MaskRule | None = None,
    **options: Any,
) -> Any:
    """Load a 3CAD tree as a Hugging Face dataset.

    Images are not copied: the dataset holds their paths. The columns are ``image_id``, ``image``,
    ``mask`` (``None`` for a good image), ``label``, ``category``, ``defect_type`` and
    ``defect_types``; the names of the defect types are ``good`` and the sorted folder names of the
    whole tree, in every configuration.

    Args:
        path: Always ``"3cad"``.
        name: ``"all"`` or a category; all of them by default.
        split: ``"train"``, ``"validation"``, ``"test"`` or a slice such as ``"test[:10%]"``; a
            dictionary of all splits by default.
        data_dir: The tree; ``default_root()`` of ``threecad.system.locations`` by default. A copy
            on the Hub is ``"hf://datasets/OWNER/NAME"``.
        streaming: Iterate without writing a cache.
        split_file: Take the splits from this file (see ``threecad split``).
        fold: Held-out fold, for a k-fold split file.
        errata: Apply the corrections in this file (see ``threecad audit``); the dataset's
            ``info.description`` names their SHA-256.
        with_stats: Add the region statistics of every mask (see
            ``threecad.formats.columns.describe_regions``).
        mask_rule: Decode the masks by this rule for the statistics (see
            ``threecad.decode_mask``); the column ``mask`` is the file as it is.
        **options: Anything else ``datasets.load_dataset`` takes, such as ``num_proc``.

    Returns:
        A ``datasets.Dataset`` or ``DatasetDict``, or their iterable kin with ``streaming``.

    Raises:
        UsageError: If ``path`` is another dataset, an option is for trees only and ``data_dir`` is
            on the Hub, or ``mask_rule`` is given without ``with_stats``.
        LayoutError: If there is no tree; the message says how to get it.
    """
    from threecad.errors import UsageError

    if path != NAME:
        raise UsageError(
            f"threecad.load_dataset loads {NAME!r}, not {path!r}. Use datasets.load_dataset."
        )
    import datasets

    # Options that are left out must stay out: datasets makes them part of the cache's name.
    if split_file is not None:
        options["split_file"] = str(split_file)
    if fold is not None:
        options["fold"] = fold
    if errata is not None:
        options["errata"] = str(errata)
    if with_stats:
        options["with_stats"] = True
    if mask_rule is not None:
        if not with_stats:
            raise UsageError("mask_rule decides the region statistics: give with_stats=True too.")
        options["mask_rule"] = mask_rule
    own = {"split_file", "fold", "errata", "with_stats", "mask_rule"} & set(options)
    if own and is_on_hub(data_dir):
        raise UsageError(
            f"{', '.join(sorted(own))} are for a tree on disk; a copy on the Hub is as it was "
            "pushed. Fetch it with `threecad download --source hf:OWNER/NAME` first."
        )
    return datasets.load_dataset(
        path,
        name,
        split=split,
        data_dir=str(data_dir) if data_dir is not None else None,
        streaming=streaming,
        **options,
    )
