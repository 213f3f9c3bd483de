"""Vision transformers as teachers: the tokens of three blocks as three feature levels.

A transformer has one grid of tokens and no pyramid. The rule by which it makes one:

    the image is resized (bilinear) to the nearest multiples of the patch size, so that its patches
        cover it whatever its size; of 448 × 448 pixels nothing has to be resized
    level 1, 2, 3 are the tokens after a third, two thirds and all of the blocks (of twelve: after
        the 4th, 8th and 12th), each through the last LayerNorm, without class and register tokens
    each is resized (bilinear) from the grid of tokens to that of its level, H/4, H/8 or H/16

Position embeddings are resampled to the grid of tokens as timm does it (bicubic, antialiased);
DINOv3's rotary ones know any grid.

The networks themselves are timm's, which is an optional dependency.

References:
    Dosovitskiy et al., An Image is Worth 16×16 Words, https://arxiv.org/abs/2010.11929
    Oquab et al., DINOv2, https://arxiv.org/abs/2304.07193
    Siméoni et al., DINOv3, https://arxiv.org/abs/2508.10104
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threecad.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VisionTransformer", "translate_dinov2", "translate_dinov3"]

STRIDES = (4, 8, 16)

PREFIX = "transformer."
"""Before the names of timm's tensors."""


class VisionTransformer(nn.Module):
    """A transformer of timm that gives three feature levels.

    Args:
        name: Of timm's model.
        **options: For ``timm.create_model``.

    Raises:
        ModelError: If timm is not installed.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        try:
            import timm
        except ImportError:
            raise ModelError(
                "This teacher is a vision transformer and needs the package timm, which is not "
                'installed. Run: pip install "threecad[vit]"'
            ) from None
        self.transformer = timm.create_model(name, num_classes=0, dynamic_img_size=True, **options)
        _fill_buffers(self.transformer)
        depth = len(self.transformer.blocks)
        self.taps = [depth // 3 - 1, 2 * depth // 3 - 1, depth - 1]

    def forward(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W), both multiples of 16, → three levels (N, C, h, w)."""
        height, width = image.shape[-2:]
        size = self._patched(height, width)
        if size != (height, width):
            image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        tokens = self.transformer.forward_intermediates(
            image, indices=self.taps, norm=True, intermediates_only=True
        )
        return [
            F.interpolate(
                grid, (height // stride, width // stride), mode="bilinear", align_corners=False
            )
            for grid, stride in zip(tokens, STRIDES, strict=True)
        ]

    def fix_size(self, height: int, width: int) -> None:
        """Resample the position embeddings for one size of image, once and for all.

        Not every runtime of an exported graph resamples them alike. What was published is lost:
        do it to a copy.
        """
        if getattr(self.transformer, "pos_embed", None) is not None:
            self.transformer.set_input_size(img_size=self._patched(height, width))

    def _patched(self, height: int, width: int) -> tuple[int, int]:
        """The multiples of the patch size that are nearest to the sides of an image."""
        rows, columns = self.transformer.patch_embed.patch_size
        return max(1, round(height / rows)) * rows, max(1, round(width / columns)) * columns


def _fill_buffers(transformer: Any) -> None:
    """Give its values to what is in no file, where the weights are on the meta device."""
    for module in transformer.modules():
        in_file = module.state_dict()
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta and name not in in_file:
                setattr(module, name, torch.empty_like(buffer, device="cpu"))
                module.init_non_persistent_buffers()


def translate_dinov2(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for those of Meta's files and of timm's."""
    return {PREFIX + key: value for key, value in published.items() if key != "mask_token"}


def translate_dinov3(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names for those of Meta's files and of timm's.

    Queries and values have a bias and keys have none. Meta's files hold one bias for all three, of
    which a mask hides the keys' part; some of timm's leave out biases, which are zero there.
    """
    translated: dict[str, Tensor] = {}
    for key, value in published.items():
        if key == "mask_token" or key.endswith((".periods", ".bias_mask")):
            continue
        if key.endswith(".qkv.bias"):
            stem = PREFIX + key.removesuffix("qkv.bias")
            translated[f"{stem}q_bias"], _, translated[f"{stem}v_bias"] = value.chunk(3)
            continue
        for theirs, ours in (
            ("storage_tokens", "reg_token"),
            ("ls1.gamma", "gamma_1"),
            ("ls2.gamma", "gamma_2"),
        ):
            key = key.replace(theirs, ours)
        translated[PREFIX + key] = value
    for key, weight in list(translated.items()):
        if key.endswith(".qkv.weight"):
            stem = key.removesuffix("qkv.weight")
            for name in ("q_bias", "v_bias"):
                translated.setdefault(f"{stem}{name}", weight.new_zeros(len(weight) // 3))
    return translated
