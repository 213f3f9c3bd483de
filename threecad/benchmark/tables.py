"""From records to tables: methods beside each other, and beside the published figures."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from threecad.benchmark.comparison import (
    MEAN,
    PUBLISHED_KEYS,
    compare,
    published_methods,
    published_result,
)
from threecad.benchmark.detectors import PUBLISHED_NAMES, UNAVAILABLE
from threecad.benchmark.reported import reported_protocols, tabulate
from threecad.benchmark.reports import Report
from threecad.dataset.catalog import CATEGORIES
from threecad.evaluation.bootstrap import add_mean_confidence
from threecad.evaluation.results import FIGURE_NAMES, KEYS, Result
from threecad.evaluation.scoring import mean_scores
from threecad.evaluation.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from threecad.benchmark.store import Record
    from threecad.dataset.samples import Index
    from threecad.evaluation.scores import Figure

__all__ = ["KEYS_OF", "average_ranks", "combine_seeds", "make_report"]

KEYS_OF: dict[str, tuple[str, ...]] = {"full": KEYS, "paper": tuple(PUBLISHED_KEYS.values())}
"""Protocol → the figures that its tables show."""


@dataclass(frozen=True)
class Cell:
    """One figure of one method: over seeds, in fractions.

    Attributes:
        values: One for each seed.
        confidence: Bootstrap interval over images, averaged over the seeds.
        obstacle: Why it cannot be compared with the measured methods.
    """

    values: tuple[float, ...] = ()
    confidence: tuple[float, float] | None = None
    obstacle: str | None = None

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return fmean(self.values) if self.values else None

    def __str__(self) -> str:
        """Return percent: mean, ± standard deviation over seeds, [interval over images]."""
        if not self.values:
            return "–"
        text = f"{100 * fmean(self.values):.1f}"
        if len(self.values) > 1:
            text += f" ± {100 * stdev(self.values):.1f}"
        if self.confidence is not None:
            text += f" [{100 * self.confidence[0]:.1f}, {100 * self.confidence[1]:.1f}]"
        return f"{text} †" if self.obstacle else text


Rows = dict[str, dict[str, dict[str, Cell]]]
"""Method → figure → column → cell."""


def make_report(
    records: Iterable[Record],
    *,
    protocols: Sequence[str] = ("full", "paper"),
    results: Mapping[str, Result] | None = None,
    methods: Sequence[str] = (),
    index: Index | None = None,
) -> Report:
    """Return the tables of a benchmark.

    Args:
        records: The trials.
        protocols: The protocols to show.
        results: Further methods, by name: results that ``threecad evaluate --out`` has written.
        methods: All that were asked for, so that those which could not be run are named.
        index: The samples: tells whether ``results`` over several categories are from the same.
    """
    records = list(records)
    done = [record for record in records if record.error is None]
    tables: list[Table] = []
    notes: list[str] = []
    combined: dict[str, Result] = {}
    for protocol in protocols:
        seeds = combine_seeds(done, protocol, index)
        combined |= {
            f"{method}-{protocol}-{seed}": result
            for method, by_seed in seeds.items()
            for seed, result in by_seed.items()
        }
        added = {name: r for name, r in (results or {}).items() if r.protocol == protocol}
        rows, obstacles = _make_rows(seeds, added, protocol)
        tables += _figure_tables(rows, protocol)
        notes += obstacles
    if done:
        tables.append(_cost_table(done))
        tables.append(_setting_table(done))
    reported = tabulate(reported_protocols(), _codes(done))
    tables += reported.tables
    notes += reported.notes
    notes += [f"{r.method}, {r.category}, seed {r.seed} failed: {_one_line(r.error)}"
              for r in records if r.error is not None]  # fmt: skip
    notes += [f"{name}: {UNAVAILABLE[name]}." for name in methods if name in UNAVAILABLE]
    return Report(tuple(tables), tuple(dict.fromkeys(notes)), combined)


def _codes(records: Iterable[Record]) -> set[str]:
    """Return the codes of the categories of 3CAD that were run."""
    return {CATEGORIES[r.category].code for r in records if r.category in CATEGORIES}


def combine_seeds(
    records: Iterable[Record], protocol: str, index: Index | None = None
) -> dict[str, dict[int, Result]]:
    """Return method → seed → the result over all categories that were run with that seed."""
    parts: dict[str, dict[int, dict[str, Result]]] = defaultdict(lambda: defaultdict(dict))
    for record in sorted(records, key=lambda record: record.category):
        if protocol in record.results:
            parts[record.method][record.seed][record.category] = record.results[protocol]
    return {
        method: {seed: _join(by_category, index) for seed, by_category in sorted(seeds.items())}
        for method, seeds in parts.items()
    }


def average_ranks(scores: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """Return each method's rank, averaged over the columns; ties share the mean of their ranks.

    Args:
        scores: Method → column → score, higher is better. Methods that lack a column are left out.
    """
    columns = list(dict.fromkeys(column for row in scores.values() for column in row))
    ranked = {
        method: row
        for method, row in scores.items()
        if columns and all(row.get(column) is not None for column in columns)
    }
    ranks: dict[str, list[float]] = defaultdict(list)
    for column in columns:
        values = [row[column] for row in ranked.values()]
        for method, row in ranked.items():
            higher = sum(value > row[column] for value in values)  # type: ignore[operator]
            ranks[method].append(1 + higher + (values.count(row[column]) - 1) / 2)
    return {method: fmean(values) for method, values in ranks.items()}


def _join(by_category: Mapping[str, Result], index: Index | None) -> Result:
    """Return the results of single categories as one, like that of all of them together."""
    results = list(by_category.values())
    if len(results) == 1:
        return results[0]
    by_name = {name: scores for r in results for name, scores in r.by_category.items()}
    fingerprint = None
    if index is not None:
        fingerprint = index.select(category=list(by_category), split="test").fingerprint
    return Result(
        mean=add_mean_confidence(mean_scores(by_name.values()), list(by_name.values())),
        by_category=by_name,
        by_defect_type={name: s for r in results for name, s in r.by_defect_type.items()},
        protocol=results[0].protocol,
        settings=results[0].settings,
        provenance={**results[0].provenance, "fingerprint": fingerprint},
    )


def _make_rows(
    seeds: Mapping[str, Mapping[int, Result]], added: Mapping[str, Result], protocol: str
) -> tuple[Rows, list[str]]:
    """Return the cells of all methods, and one line per reason why some cannot be compared."""
    keys = KEYS_OF[protocol]
    measured = [result for by_seed in seeds.values() for result in by_seed.values()]
    columns = sorted({column for result in measured for column in result.by_category})
    rows: Rows = {
        method: _measured_cells(by_seed, keys, columns) for method, by_seed in seeds.items()
    }
    widest = max(measured, key=lambda result: len(result.by_category), default=None)
    others = dict(added)
    if any(category in CATEGORIES for category in columns):
        asked = {PUBLISHED_NAMES.get(method) for method in seeds}
        names = sorted(published_methods(), key=lambda name: (name not in asked, name))
        others |= {f"{name} (published)": published_result(name) for name in names}
    for name, result in others.items():
        reference = {"the measured methods": widest} if widest is not None else {}
        comparison = compare({**reference, name: result})
        rows[name] = {
            key: {
                column: Cell(
                    () if cell.figure.value is None else (cell.figure.value,),
                    cell.figure.confidence,
                    cell.obstacle,
                )
                for column, cell in comparison.cells.get(key, {}).get(name, {}).items()
            }
            for key in keys
        }
    if columns:  # what else a result covers has nothing beside it
        # With one category its figures are the mean; that of a result over more is another.
        shown = columns if len(columns) == 1 else [*columns, MEAN]
        rows = {
            name: {
                key: {column: by_column[column] for column in shown if column in by_column}
                for key, by_column in by_key.items()
            }
            for name, by_key in rows.items()
        }
    rows = {
        name: by_key
        for name, by_key in rows.items()
        if any(cell.values for by_column in by_key.values() for cell in by_column.values())
    }
    return rows, _obstacles(rows)


def _obstacles(rows: Rows) -> list[str]:
    """Return a line for each reason that a mark in the tables stands for."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for name, by_key in rows.items():
        for by_column in by_key.values():
            for cell in by_column.values():
                if cell.values and cell.obstacle is not None:
                    found[cell.obstacle][name] = None
    return [f"† {', '.join(names)}: {reason}" for reason, names in found.items()]


def _measured_cells(
    by_seed: Mapping[int, Result], keys: Sequence[str], columns: Sequence[str]
) -> dict[str, dict[str, Cell]]:
    return {
        key: {
            **{
                column: _cell([r.by_category[column].figures.get(key) for r in by_seed.values()
                               if column in r.by_category])
                for column in columns
            },
            # Who has not done every category has no mean: it would stand beside others' of more.
            MEAN: _cell([r.mean.figures.get(key) for r in by_seed.values()
                         if set(r.by_category) == set(columns)]),
        }
        for key in keys
    }  # fmt: skip


def _cell(figures: Sequence[Figure | None]) -> Cell:
    defined = [figure for figure in figures if figure is not None and figure.value is not None]
    intervals = [figure.confidence for figure in defined if figure.confidence is not None]
    confidence = None
    if intervals and len(intervals) == len(defined):
        confidence = (fmean(low for low, _ in intervals), fmean(high for _, high in intervals))
    return Cell(tuple(figure.value for figure in defined if figure.value is not None), confidence)


def _figure_tables(rows: Rows, protocol: str) -> list[Table]:
    """Return the table of all figures, and where there are several categories, one per figure."""
    if not rows:
        return []
    keys = [
        key
        for key in KEYS_OF[protocol]
        if any(_is_comparable(row.get(key, {})) for row in rows.values())
    ]
    found = {column for row in rows.values() for cells in row.values() for column in cells}
    columns = sorted(found - {MEAN})
    ranks = {key: average_ranks(_comparable(rows, key, columns)) for key in keys}
    overall = _mean_ranks(ranks)
    names = [FIGURE_NAMES.get(key, key) for key in keys]
    column = columns[0] if len(columns) == 1 else MEAN
    where = column if len(columns) == 1 else f"mean of {len(columns)} categories"
    note = (
        "Percent. ± is the standard deviation over seeds; in brackets the 95 % bootstrap interval "
        "over test images. Rank: mean over figures and categories, 1 is best."
    )
    summary = Table(
        f"Protocol {protocol}, {where}",
        ("Method", *names, "Rank"),
        tuple(
            (
                method,
                *(str(row.get(key, {}).get(column, Cell())) for key in keys),
                f"{overall[method]:.1f}" if method in overall else "–",
            )
            for method, row in rows.items()
        ),
        note,
    )
    if len(columns) == 1:
        return [summary]
    return [summary, *(
        Table(
            f"{name}, protocol {protocol}, percent",
            ("Method", *columns, MEAN, "Rank"),
            tuple(
                (
                    method,
                    *(str(row.get(key, {}).get(c, Cell())) for c in (*columns, MEAN)),
                    f"{ranks[key][method]:.1f}" if method in ranks[key] else "–",
                )
                for method, row in rows.items()
                if any(cell.values for cell in row.get(key, {}).values())
            ),
        )
        for key, name in zip(keys, names, strict=True)
    )]  # fmt: skip


def _is_comparable(cells: Mapping[str, Cell]) -> bool:
    return any(cell.values and not cell.obstacle for cell in cells.values())


def _comparable(rows: Rows, key: str, columns: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Return the scores that may be ranked against each other."""
    scores: dict[str, dict[str, float | None]] = {}
    for method, row in rows.items():
        cells = {column: row.get(key, {}).get(column, Cell()) for column in columns}
        if not any(cell.obstacle for cell in cells.values()):
            scores[method] = {column: cell.mean for column, cell in cells.items()}
    return scores


def _mean_ranks(ranks: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over all figures, for methods that have them all."""
    methods = {method for by_method in ranks.values() for method in by_method}
    return {
        method: fmean(by_method[method] for by_method in ranks.values())
        for method in methods
        if all(method in by_method for by_method in ranks.values())
    }


def _cost_table(records: Sequence[Record]) -> Table:
    methods = dict.fromkeys(record.method for record in records)
    rows = []
    for method in methods:
        own = [record for record in records if record.method == method]
        rows.append(
            (
                method,
                _count(next((r.facts.get("parameters") for r in own), None)),
                _mean_of([r.fit_seconds and r.fit_seconds / 60 for r in own], ".1f"),
                _mean_of([r.fit_cpu_seconds and r.fit_cpu_seconds / 60 for r in own], ".1f"),
                _mean_of([r.images_per_second for r in own], ".1f"),
                _mean_of([r.peak_memory and r.peak_memory / 1e6 for r in own], ",.0f"),
                _mean_of([r.peak_gpu_memory and r.peak_gpu_memory / 1e6 for r in own], ",.0f"),
                str(len(own)),
            )
        )
    threads = {r.environment.get("threads") for r in records}
    devices = {r.environment.get("gpu", r.environment.get("device")) for r in records}
    note = (
        f"Means over trials. Device: {', '.join(sorted(map(str, devices)))}; threads: "
        f"{', '.join(sorted(map(str, threads)))}. Memory is that of the whole process, Python and "
        "torch included; images/s from file to map."
    )
    header = ("Method", "Parameters", "Training, min", "CPU, min", "Images/s", "Peak memory, MB",
              "Peak GPU memory, MB", "Trials")  # fmt: skip
    return Table("What it costs", header, tuple(rows), note)


def _setting_table(records: Sequence[Record]) -> Table:
    methods = dict.fromkeys(record.method for record in records)
    rows = []
    for method in methods:
        facts = next(record.facts for record in records if record.method == method)
        rows.append(
            (
                method,
                *(str(facts.get(key) or "–") for key in ("input", "backbone", "steps")),
                str(facts.get("own_budget") or "–"),
                ", ".join(f"{k}={v}" for k, v in facts.get("options", {}).items()) or "–",
            )
        )
    header = ("Method", "Input", "Backbone", "Optimiser steps", "Its authors' budget", "Set")
    return Table("How it was run", header, tuple(rows))


def _count(number: Any) -> str:
    return f"{number / 1e6:.2f} M" if isinstance(number, (int, float)) else "–"


def _mean_of(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(fmean(known), form) if known else "–"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
