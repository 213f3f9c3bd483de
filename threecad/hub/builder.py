"""The ``datasets`` builder of a 3CAD tree."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import datasets
import datasets.streaming
from datasets.load import BuilderConfigsParameters, DatasetModule

from threecad.dataset.catalog import CITATIONS
from threecad.dataset.scanning import category_folders, find_root, scan
from threecad.formats import columns
from threecad.formats.cards import describe_errata
from threecad.formats.contents import File
from threecad.formats.orientation import Untagged
from threecad.images.files import read_header, read_size
from threecad.images.masks import read_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from threecad.dataset.samples import Index, Sample
    from threecad.images.masks import MaskRule

__all__ = ["TreeBuilder", "TreeConfig", "describe_module"]

_ALL = "all"
_SHARD = 256
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


@dataclass
class TreeConfig(datasets.BuilderConfig):  # type: ignore[misc]
    """One category of a tree, or all of them.

    Attributes:
        split_file: Where the splits are taken from, if not from the folders.
        fold: The fold of it to hold out, if it has folds.
        errata: The corrections to apply.
        with_stats: Whether to add the region statistics.
        mask_rule: The rule to decode the masks by for these, instead of the first that fits.
    """

    split_file: str | None = None
    fold: int | None = None
    errata: str | None = None
    with_stats: bool = False
    mask_rule: MaskRule | None = None
    _index: Index | None = field(default=None, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        # The index of a tree is large, and soon made again where it is needed.
        return {**self.__dict__, "_index": None}

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """Return the name of the cache: another one as soon as a file of the tree has changed."""
        stamped = {**config_kwargs, "tree": _stamp(self, self.index())}
        config_id: str = super().create_config_id(stamped, custom_features)
        return config_id

    def index(self) -> Index:
        """Return the index of the whole tree; made once, so that all that is built agrees."""
        if self._index is None:
            self._index = scan(
                self.data_dir, split_file=self.split_file, errata=self.errata, fold=self.fold
            )
        return self._index

    def select(self, index: Index) -> Index:
        """Return what this configuration is about."""
        return index if self.name == _ALL else index.select(category=self.name)


class TreeBuilder(datasets.GeneratorBasedBuilder):  # type: ignore[misc]
    """Rows of paths; a shard is a folder, or 256 images of it."""

    VERSION: ClassVar[datasets.Version] = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS: ClassVar[type[TreeConfig]] = TreeConfig
    config: TreeConfig

    def __init__(self, *arguments: Any, **options: Any) -> None:
        with _leaving_no_lock():
            super().__init__(*arguments, **options)

    def __setstate__(self, state: dict[str, Any]) -> None:
        with _leaving_no_lock():
            super().__setstate__(state)

    def _info(self) -> datasets.DatasetInfo:
        index = self.config.index()
        described = columns.describe_columns(
            index.categories,
            {sample.defect_type for sample in index},
            with_stats=self.config.with_stats,
        )
        return datasets.DatasetInfo(
            description=_describe(index),
            features=datasets.Features.from_dict(described),
            citation=CITATIONS["3CAD"],
            homepage="https://github.com/EnquanYang2022/3CAD",
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        del dl_manager  # nothing is downloaded
        index = self.config.select(self.config.index())
        generators = []
        for split, name in _SPLITS.items():
            samples = [sample for sample in index if sample.split == split]
            if shards := list(_shards(samples)):
                generators.append(datasets.SplitGenerator(name, gen_kwargs={"shards": shards}))
        return generators

    def _generate_examples(
        self, shards: list[list[Sample]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for shard in shards:
            for sample in shard:
                yield sample.id, _row(sample, self.config)


@contextmanager
def _leaving_no_lock() -> Iterator[None]:
    """Keep ``datasets`` 3 from writing a lock beside our package, where it may not be allowed.

    While it makes a builder it takes the file of any that is not its own for a downloaded one.
    """
    lock = getattr(datasets.streaming, "lock_importable_file", None)
    if lock is None:
        yield
        return
    datasets.streaming.lock_importable_file = lambda path: (
        nullcontext() if path == __file__ else lock(path)
    )
    try:
        yield
    finally:
        datasets.streaming.lock_importable_file = lock


def describe_module(data_dir: str | None = None) -> DatasetModule:
    """Return what ``datasets`` needs to know to build the tree at ``data_dir``.

    There is one configuration for every category of the tree and one, the default, for all.

    Raises:
        LayoutError: If there is no tree.
    """
    root = find_root(data_dir).resolve()
    version = TreeBuilder.VERSION
    return DatasetModule(
        __name__,
        _code_digest(),
        {"dataset_name": "3cad", "data_dir": str(root)},
        BuilderConfigsParameters(
            builder_configs=[
                TreeConfig(name=name, version=version)
                for name in (_ALL, *sorted(category_folders(root)))
            ],
            default_config_name=_ALL,
        ),
    )


def _describe(index: Index) -> str:
    described = "3CAD: surface defects on 3C parts, or a tree in its layout."
    if index.errata_digest is None:
        return described
    return f"{described} {describe_errata(index.errata_digest)}"


def _shards(samples: list[Sample]) -> Iterator[list[Sample]]:
    """Yield the samples of every folder in pieces: what processes and stream readers share."""
    for _, group in groupby(samples, key=lambda sample: sample.id.rsplit("/", 1)[0]):
        folder = list(group)
        for start in range(0, len(folder), _SHARD):
            yield folder[start : start + _SHARD]


def _row(sample: Sample, config: TreeConfig) -> dict[str, Any]:
    for path in (sample.image, sample.mask):
        if path is not None:  # the rows are paths, and ``datasets`` decodes all that Pillow can
            read_size(path)
    row: dict[str, Any] = {
        "image_id": sample.id,
        "image": _image(sample),
        "mask": str(sample.mask) if sample.mask is not None else None,
        "label": sample.label,
        "category": sample.category,
        "defect_type": sample.defect_type,
        "defect_types": list(sample.defect_types),
    }
    if config.with_stats:
        mask = None
        if sample.mask is not None:
            mask = read_mask(sample.mask, rule=config.mask_rule)
        row |= columns.describe_regions(mask)
    return row


def _image(sample: Sample) -> str | dict[str, Any]:
    """Return what the column takes: the path, or the bytes where a tag would turn the picture."""
    content = File(sample.image)
    if content.suffix == ".bmp" or read_header(sample.image).orientation == 1:
        return str(sample.image)
    return {"path": sample.image.name, "bytes": Untagged(content).read_bytes()}


def _stamp(config: TreeConfig, index: Index) -> str:
    """Return a digest of what decides the rows: names, sizes and times of all files."""
    digest = hashlib.sha256()
    names = [*index.categories, *sorted({sample.defect_type for sample in index})]
    digest.update("|".join([*names, str(index.errata_digest)]).encode())
    for sample in config.select(index):
        digest.update(f"\n{sample.id}|{sample.split}|{sample.defect_type}".encode())
        for path in (sample.image, sample.mask):
            if path is not None:
                status = path.stat()
                digest.update(f"|{path}|{status.st_size}|{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def _code_digest() -> str:
    """Return a digest of the code that makes the rows, so that a new version makes them anew."""
    digest = hashlib.sha256()
    for module in (__file__, columns.__file__):
        digest.update(Path(module).read_bytes())
    return digest.hexdigest()[:16]
