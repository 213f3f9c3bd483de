"""Model selection on good images that are held out of training, never on the test images.

Every held-out image is scored twice, as it is and with a synthetic defect that depends on the seed
and the image alone. So all validations of a run, and of its resumed parts, see the same pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from cfrg.defects.pairs import PairKey
from cfrg.network import processing
from cfrg.training.averaging import own_state
from threecad.metrics import Evaluator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfrg.defects.pairs import TrainingPairs
    from cfrg.network.model import CFRG
    from cfrg.training.averaging import WeightAverage

__all__ = ["BestWeights", "Validation", "validate"]

FIGURES = {"image_auroc": "validation_image_auroc", "pixel_ap": "validation_pixel_ap"}


class BestWeights:
    """The weights that validated best so far.

    Attributes:
        step: Steps that were done when they were seen; 0 for none.
        score: Mean of their figures.
        values: The weights, without the frozen teacher's.
    """

    def __init__(self) -> None:
        self.step, self.score = 0, float("-inf")
        self.values: dict[str, torch.Tensor] = {}

    def offer(self, model: CFRG, figures: dict[str, float], step: int) -> None:
        """Keep the model's weights if they are better than all before."""
        score = sum(figures.values()) / len(figures)
        if score > self.score:
            self.step, self.score = step, score
            self.values = {name: value.clone() for name, value in own_state(model).items()}

    @torch.no_grad()
    def copy_to(self, model: CFRG) -> None:
        """Put the best weights in the place of the network's own."""
        _assign(model, self.values)


class Validation:
    """The held-out images, with and without their defects.

    Args:
        pairs: Of the held-out images, with a purpose of their own.
        batch_size: Pairs at a time.
    """

    ATTEMPTS = 100
    """How often a defect that cannot be seen is drawn again."""

    def __init__(self, pairs: TrainingPairs, batch_size: int = 16) -> None:
        self.pairs, self.batch_size = pairs, batch_size

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        """Return a pair with a defect, as ``TrainingPairs`` does."""
        for attempt in range(self.ATTEMPTS):
            pair = self.pairs[PairKey(attempt, position)]
            if pair["mask"].any():
                break
        return pair

    def score(self, model: CFRG) -> dict[str, float]:
        """Calibrate the model's maps on the good images, then score it in evaluation mode.

        Returns:
            ``validation_image_auroc`` and ``validation_pixel_ap``.
        """
        device = next(model.parameters()).device

        def prepare(images: torch.Tensor) -> torch.Tensor:
            return processing.normalize(images.to(device), model.config)

        model.fit_calibration(prepare(batch["clean"]) for batch in self._batches())
        evaluator = Evaluator(breakdowns=False)
        for batch in self._batches():
            masks = batch["mask"][:, 0]
            for label, name in enumerate(("clean", "defective")):
                maps, scores = model.predict(prepare(batch[name]))
                evaluator.update(
                    maps[:, 0].cpu().numpy(),
                    (masks * label).numpy(),
                    scores.cpu().numpy(),
                    [label] * len(masks),
                )
        figures = evaluator.compute().mean.figures
        return {name: figures[key].value or 0.0 for key, name in FIGURES.items()}

    def _batches(self) -> Iterator[dict[str, torch.Tensor]]:
        for first in range(0, len(self.pairs), self.batch_size):
            last = min(first + self.batch_size, len(self.pairs))
            pairs = [self[position] for position in range(first, last)]
            yield {name: torch.stack([pair[name] for pair in pairs]) for name in pairs[0]}


def validate(
    model: CFRG, average: WeightAverage | None, validation: Validation, best: BestWeights, step: int
) -> dict[str, float]:
    """Score the averaged weights, or the last if none are averaged; leave the model as it is.

    Args:
        model: The network in training.
        average: The average of its weights.
        validation: What to score it on.
        best: Takes over the weights if they are the best.
        step: Steps done.
    """
    kept = {name: value.clone() for name, value in own_state(model).items()}
    training = model.training
    model.eval()
    try:
        if average:
            average.copy_to(model)
        figures = validation.score(model)
        best.offer(model, figures, step)
    finally:
        _assign(model, kept)
        model.train(training)
    return figures


@torch.no_grad()
def _assign(model: CFRG, values: dict[str, torch.Tensor]) -> None:
    own = own_state(model)
    for name, value in values.items():
        own[name].copy_(value)
