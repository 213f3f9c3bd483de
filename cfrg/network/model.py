"""CFRG, the coarse-to-fine detector of 3CAD: teacher, student, recovery and segmentation.

Three feature levels at H/4, H/8 and H/16; c(a, b) is the cosine similarity over the channels:

    coarse     w_t = 1 − c(T, S)           where student and teacher disagree
    recovery   w_r = 1 − c(T, R(fuse(T)))  where the normal features cannot be recovered
    fine       U-Net(w_r · w_t · T)        a segmentation of what both point at
    map        A = Σ w_r + σ(U-Net)        resized to the image and summed

Reference: Yang et al., 3CAD: A Large-Scale Real-World 3C Product Dataset for Unsupervised Anomaly
Detection, https://arxiv.org/abs/2502.05761. Feature fusion and recovery decoder are those of
reverse distillation, https://arxiv.org/abs/2201.10703.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfrg.devices import compute_in_forked_children
from cfrg.network import processing
from cfrg.network.config import CFRGConfig
from cfrg.network.layers import (
    Adapter,
    Decoder,
    Fusion,
    Moments,
    Standardizer,
    UNet,
    pad_to_stride,
)
from cfrg.network.losses import (
    discrepancy_loss,
    recovery_loss,
    segmentation_loss,
    squared_recovery_error,
)
from cfrg.network.pretrained import PretrainedModel
from cfrg.network.reading import (
    BRANCHES,
    Detection,
    Reading,
    feature_distance,
    resize_branch,
)
from cfrg.teachers.backbones import STUDENTS, TEACHERS, load_teacher
from cfrg.teachers.folding import fold_batch_norms
from threecad.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["BRANCHES", "CFRG", "CFRGOutput"]


class CFRGOutput(NamedTuple):
    """What ``CFRG.forward`` returns.

    Attributes:
        anomaly_map: ``(N, 1, H, W)`` float32 before smoothing, higher = more anomalous.
        logits: ``(N, 1, H, W)`` of the segmentation U-Net.
        teacher: T at H/4, H/8, H/16, each ``(N, C, h, w)``.
        student: S, of the same shapes.
        recovery: R, of the same shapes.
    """

    anomaly_map: Tensor
    logits: Tensor
    teacher: list[Tensor]
    student: list[Tensor]
    recovery: list[Tensor]


class CFRG(PretrainedModel):
    """The detector.

    A new one has random weights everywhere; ``load_teacher`` brings the teacher's. Parameters of
    the teacher are frozen, and it stays in evaluation mode whatever ``train`` is told.

    Args:
        config: What to build; the paper's network by default.
    """

    def __init__(self, config: CFRGConfig | None = None) -> None:
        config = config or CFRGConfig()
        super().__init__(config)
        compute_in_forked_children()
        teacher, student = TEACHERS[config.teacher], STUDENTS[config.student]
        channels, nonnegative = teacher.channels, config.nonnegative
        self.teacher = teacher.build().requires_grad_(False)
        self.standardizers = nn.ModuleList(
            Standardizer(c) for c in channels if config.standardize_features
        )
        self.student = student.build()
        self.adapters = nn.ModuleList(
            Adapter(s, t, nonnegative=nonnegative)
            for s, t in zip(student.channels, channels, strict=True)
        )
        self.fusion = Fusion(
            channels,
            blocks=config.fusion_blocks,
            width=config.fusion_width,
            outputs=config.fusion_channels,
        )
        self.decoder = Decoder(config.fusion_channels, channels, config)
        seen = 2 if config.segmentation_input == "both" else 1
        c1, c2, c3 = channels
        self.unet = UNet((seen * c1, seen * c2, seen * c3), config.unet_channels)
        self._begin_to_read()
        for module in (*self.fusion.modules(), *self.decoder.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)
        self.train()

    @classmethod
    def blank(cls, config: CFRGConfig) -> CFRG:
        """A network with random weights, if the configuration is that of one."""
        if config.is_memory:
            raise ModelError(
                "This is a nearest-neighbour memory, no CFRG network. Load it with "
                "NearestNeighbourMemory.from_pretrained, or either kind with "
                "Predictor.from_pretrained."
            )
        return cls(config)

    def load_teacher(self, weights: Path | None = None) -> Path:
        """Put the teacher's published weights in place.

        Args:
            weights: Their file, where it is not to be looked up or fetched.

        Returns:
            The file that was read.

        Raises:
            ModelError: The file is not there, cannot be fetched, or holds another network.
        """
        return load_teacher(self.config.teacher, self.teacher, weights)

    def train(self, mode: bool = True) -> CFRG:
        """Set training mode, except for the teacher, whose statistics are frozen."""
        super().train(mode)
        self.teacher.eval()
        return self

    def folded(self) -> CFRG:
        """A copy for prediction, its batch normalisations folded into the convolutions.

        The maps are the same up to rounding. The copy has other tensors than the model: it can
        neither be trained nor saved.
        """
        return fold_batch_norms(self)

    def forward(self, image: Tensor) -> CFRGOutput:
        """Anomaly map and what it is made of.

        Args:
            image: ``(N, 3, H, W)`` float, normalised with ``config.mean`` and ``config.std``.
                Sizes that are not multiples of 32 are padded at right and bottom by replication;
                feature levels are those of the padded image.
        """
        teacher = self._teach(image)
        found = self._detect(image, teacher)
        height, width = image.shape[-2:]
        total = self.config.scales[0] * self.calibration(teacher, found)[..., :height, :width]
        for scale, reading in enumerate(self.smaller, 1):
            smaller = halve(image, scale)
            features = self._teach(smaller)
            part = reading(features, self._detect(smaller, features))
            part = part[..., : smaller.shape[-2], : smaller.shape[-1]]
            part = F.interpolate(part, (height, width), mode="bilinear", align_corners=False)
            total = total + self.config.scales[scale] * part
        return CFRGOutput(
            anomaly_map=total,
            logits=found.logits[..., :height, :width],
            teacher=teacher,
            student=found.student,
            recovery=found.recovered,
        )

    def losses(self, clean: Tensor, defective: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The training objective on a batch of pairs.

        Args:
            clean: ``(N, 3, H, W)`` float, normalised normal images; only the teacher sees them.
            defective: The same images with synthetic defects.
            mask: ``(N, 1, H, W)``, 1 on the defects and 0 elsewhere. Sizes that are not multiples
                of 32 are padded, and the padding counts as image.

        Returns:
            The scalars ``segmentation``, ``discrepancy``, ``recovery``, and their sum ``loss``.
        """
        features = self._teach(torch.cat([clean, defective]))
        normal = [level[: len(clean)] for level in features]
        teacher = [level[len(clean) :] for level in features]
        found = self._detect(defective, teacher)
        mask = pad_to_stride(mask.float())
        each_place = self.config.recovery_loss == "pixel"
        terms = {
            "segmentation": segmentation_loss(found.logits, mask),
            "discrepancy": discrepancy_loss(found.coarse_maps, mask),
            "recovery": recovery_loss(normal, found.recovered, each_place=each_place),
        }
        if self.config.recovery_mse:
            error = squared_recovery_error(normal, found.recovered)
            terms["recovery"] = terms["recovery"] + self.config.recovery_mse * error
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    @torch.no_grad()
    def predict(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Smoothed anomaly maps and image scores, in evaluation mode.

        Args:
            image: As in ``forward``.

        Returns:
            Maps ``(N, 1, H, W)`` and scores ``(N,)``, float32, higher = more anomalous. The score
            is the maximum of the smoothed map, or the mean of its top ``config.score_fraction``.
        """
        return processing.finish(self.predict_maps(image), self.config)

    @torch.no_grad()
    def predict_maps(self, image: Tensor) -> Tensor:
        """Smoothed anomaly maps, in evaluation mode.

        Args:
            image: As in ``forward``.

        Returns:
            ``(N, 1, H, W)`` float32.
        """
        with _evaluating(self):
            raw = self(image).anomaly_map
        with torch.autocast(image.device.type, enabled=False):  # smoothing is a matrix product
            return processing.smooth(raw, self.config)

    @torch.no_grad()
    def branches(self, image: Tensor) -> dict[str, Tensor]:
        """The maps that the anomaly map can be made of, each alone, on the image's own scale.

        The configuration says which of them ``forward`` sums.

        Args:
            image: As in ``forward``.

        Returns:
            ``(N, 1, H, W)`` by name of ``BRANCHES``, not calibrated, not smoothed.
        """
        with _evaluating(self):
            teacher = self._teach(image)
            found = self._detect(image, teacher)
        height, width = image.shape[-2:]
        return {
            name: resize_branch(name, self.calibration.branch(name, teacher, found), found.logits)[
                ..., :height, :width
            ]
            for name in BRANCHES
        }

    @torch.no_grad()
    def see(self, image: Tensor) -> Iterator[tuple[Reading, list[Tensor], Detection]]:
        """Yield, for each scale, what reads it, the teacher's features, and what was found."""
        with _evaluating(self):
            for scale, reading in enumerate((self.calibration, *self.smaller)):
                teacher = self._teach(smaller := halve(image, scale))
                yield reading, teacher, self._detect(smaller, teacher)

    @torch.no_grad()
    def teach(self, image: Tensor, scale: int = 0) -> list[Tensor]:
        """The teacher's features of an image on one scale."""
        return self._teach(halve(image, scale))

    def read_by(self, config: CFRGConfig) -> None:
        """Read images as another configuration says; what it reads with is still to be fitted.

        Args:
            config: Of the same network: it differs in what becomes of the branches' maps alone.
        """
        self.config = config
        self._begin_to_read()
        self.to(next(self.parameters()).device)

    def _begin_to_read(self) -> None:
        config, channels = self.config, sum(TEACHERS[self.config.teacher].channels)
        self.calibration = Reading(config, 0, channels)
        self.smaller = nn.ModuleList(
            Reading(config, scale, channels) for scale in range(1, len(config.scales))
        )

    @torch.no_grad()
    def fit_features(self, images: Iterable[Tensor]) -> None:
        """Set the statistics of ``standardize_features``, before training.

        Args:
            images: Batches of good images, as in ``forward``.
        """
        standardizers = [s for s in self.standardizers if isinstance(s, Standardizer)]
        if not standardizers:
            return
        moments = [Moments() for _ in standardizers]
        for image in images:
            features = self.teacher(_prepare(image))  # as they are before any standardizer
            for moment, level in zip(moments, features, strict=False):
                moment.add(level.transpose(0, 1).flatten(1))  # (C, N·h·w)
        for standardizer, moment in zip(standardizers, moments, strict=True):
            standardizer.fit(moment)

    @torch.no_grad()
    def fit_calibration(self, images: Iterable[Tensor]) -> None:
        """Set the statistics of ``calibrate_maps``, after training.

        Args:
            images: Batches of good images, as in ``forward``; better ones not trained on.
        """
        if not self.config.calibrate_maps or self.config.by_place:
            return
        moments = Moments()
        for image in images:
            maps = torch.cat(list(self.branches(image).values()), 1)  # (N, 10, H, W)
            moments.add(maps.transpose(0, 1).flatten(1))  # (10, N·H·W)
        self.calibration.mean[: len(BRANCHES)] = moments.mean
        self.calibration.std[: len(BRANCHES)] = moments.std

    def _teach(self, image: Tensor) -> list[Tensor]:
        """Teacher features, without autograd."""
        with torch.no_grad():
            features: list[Tensor] = self.teacher(_prepare(image))
            if self.standardizers:
                pairs = zip(self.standardizers, features, strict=True)
                features = [standardizer(level) for standardizer, level in pairs]
        return features

    def _detect(self, image: Tensor, teacher: list[Tensor]) -> Detection:
        student = [
            adapter(level)
            for adapter, level in zip(self.adapters, self.student(_prepare(image)), strict=True)
        ]
        recovered = self.decoder(self.fusion(teacher))
        coarse_maps = [feature_distance(t, s) for t, s in zip(teacher, student, strict=True)]
        recovery_maps = [feature_distance(t, r) for t, r in zip(teacher, recovered, strict=True)]
        seen = []  # by the U-Net, at each level (N, C, h, w), or (N, 2C, h, w) for both
        for t, r, w_t, w_r in zip(teacher, recovered, coarse_maps, recovery_maps, strict=True):
            parts = []
            if self.config.segmentation_input != "difference":
                parts.append((w_r * w_t * t).to(t.dtype))  # the weights are float32
            if self.config.segmentation_input != "weighted":
                parts.append(t - r)
            seen.append(torch.cat(parts, 1) if len(parts) > 1 else parts[0])
        return Detection(student, recovered, coarse_maps, recovery_maps, self.unet(seen))


def halve(image: Tensor, times: int) -> Tensor:
    """Return ``(N, C, H, W)`` at half its height and width, so often: means of squares."""
    return F.avg_pool2d(image, 2**times) if times else image


def _prepare(image: Tensor) -> Tensor:
    return pad_to_stride(image).contiguous(memory_format=torch.channels_last)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    if not model.training:
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()
