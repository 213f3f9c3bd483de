"""False-alarm rate aimed at against rate reached, over random hold-outs of good images.

Reads the scores of a predictions folder of good images that the model was not trained on, so it
costs no training:

    cfrg predict RUN 3cad/Copper_Stator/test/good --out good
    python tools/bench/false_alarms.py good

Each time, half of the images (or ``--calibrate`` many) give the threshold, as ``cfrg calibrate``
does, and the others show how many of them it calls defective.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from cfrg.calibration.tolerance import average_rank, clopper_pearson, needed, tolerance_rank
from cfrg.network.processing import decide
from threecad.evaluation.predictions import PredictionFolder

RATES = (0.2, 0.1, 0.05, 0.02, 0.01)


@click.command()
@click.argument("predictions", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", default="", help="Only ids with this in them, such as /good/.")
@click.option("--calibrate", type=int, help="Images that give the threshold.  [default: half]")
@click.option("--repeats", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    predictions: Path, only: str, calibrate: int | None, repeats: int, seed: int, as_json: bool
) -> None:
    """Compare the false-alarm rate aimed at with the rate reached on unseen good images."""
    table = PredictionFolder(predictions).scores or {}
    scores = np.array([score for name, score in table.items() if only in name])
    number = calibrate or len(scores) // 2
    rows = []
    for rate in RATES:
        ranks = {"with confidence": tolerance_rank(number, rate)}
        ranks["on average"] = average_rank(number, rate)
        for kind, rank in ranks.items():
            if rank is not None:
                reached = _hold_out(scores, number, rank, repeats, seed)
                rows.append(_describe(kind, rate, reached, len(scores) - number))
    if as_json:
        click.echo(json.dumps({"images": len(scores), "calibrate": number, "rows": rows}, indent=2))
        return
    click.echo(f"{len(scores)} good images, {number} of them for the threshold, {repeats} times")
    click.echo("aimed at  threshold        mean reached  highest  hold-outs above, for certain")
    for row in rows:
        click.echo(
            f"{row['rate']:8.1%}  {row['kind']:15}  {row['mean']:12.2%}  {row['highest']:7.2%}  "
            f"{row['above']:4} {row['certainly_above']:4}"
        )
    for rate in RATES:
        if tolerance_rank(number, rate) is None:
            click.echo(f"{rate:8.1%}  needs {needed(rate)} images")


def _hold_out(scores: np.ndarray, number: int, rank: int, repeats: int, seed: int) -> list[int]:
    """Return how many of the other images score above the threshold, for each repeat."""
    rng = np.random.default_rng(seed)
    above = []
    for _ in range(repeats):
        order = rng.permutation(len(scores))
        threshold = np.sort(scores[order[:number]])[rank - 1]
        above.append(int(decide(scores[order[number:]], threshold).sum()))
    return above


def _describe(kind: str, rate: float, above: list[int], unseen: int) -> dict[str, object]:
    shares = [count / unseen for count in above]
    return {
        "rate": rate,
        "kind": kind,
        "mean": float(np.mean(shares)),
        "highest": max(shares),
        "above": sum(share > rate for share in shares),
        "certainly_above": sum(clopper_pearson(count, unseen)[0] > rate for count in above),
    }


if __name__ == "__main__":
    main()
