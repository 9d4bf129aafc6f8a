"""A small vision transformer."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import Encoder

from workloads.models.rules import fits, probability, whole


class VisionTransformer(nn.Module):
    """ViT: linear patch embedding, class token, learned positions, pre-norm encoder, final norm.

    [batch, C, H, W] to tokens [batch, 1 + HW / patch^2, embed], of which the class token [batch, embed] is
    returned. The MLP of a block is 4 ``embed`` wide.

    Initialisation: patch embedding normal, truncated at 2, of variance 1/fan in, bias 0; class token 0;
    positions normal of standard deviation 0.02; attention and MLP Xavier uniform, their biases 0 or (MLP)
    normal of standard deviation 1e-6; norms 1 and 0.

    Args:
        image_shape: channels, height, width.
        patch: height and width of a patch, in pixels; divides the image's.
        embed: width of a token.
        depth: encoder blocks.
        heads: of the attention; divides ``embed``.
        dropout: probability of zero on the tokens, after the attention and inside the MLP.
    Raises: ValueError where a parameter or the images do not fit.
    Source: Dosovitskiy et al. 2021; width, depth and heads of the tiny model of Touvron et al. 2021 (DeiT);
        patch 2 for 32x32 images as in ArcGrad's recipe (erow/vitookit); the encoder is torchvision's.
    Differs from source: timm, which ArcGrad's recipe uses, starts all of it truncated normal with standard
        deviation 0.02.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        patch: int = 2,
        embed: int = 192,
        depth: int = 12,
        heads: int = 3,
        dropout: float = 0.0,
    ) -> None:
        for name, value in {"patch": patch, "embed": embed, "depth": depth, "heads": heads}.items():
            whole("vit_tiny", name, value, 1)
        probability("vit_tiny", "dropout", dropout)
        fits("vit_tiny", image_shape, 1)
        channels, height, across = image_shape
        if height % patch or across % patch:
            raise ValueError(f"vit_tiny: patch must divide the image's {height}x{across}; got {patch}")
        if embed % heads:
            raise ValueError(f"vit_tiny: heads must divide embed, {embed}; got {heads}")
        super().__init__()
        self.features = embed
        self.patches = nn.Conv2d(channels, embed, patch, stride=patch)
        nn.init.trunc_normal_(self.patches.weight, std=1 / math.sqrt(channels * patch * patch))
        nn.init.zeros_(self.patches.bias)  # type: ignore[arg-type]
        self.token = nn.Parameter(torch.zeros(1, 1, embed))
        self.encoder = Encoder(
            seq_length=1 + (height // patch) * (across // patch),
            num_layers=depth,
            num_heads=heads,
            hidden_dim=embed,
            mlp_dim=4 * embed,
            dropout=dropout,
            attention_dropout=0.0,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
        )

    def forward(self, images: Tensor) -> Tensor:
        patches: Tensor = self.patches(images)  # [batch, embed, H / patch, W / patch]
        tokens = patches.flatten(2).transpose(1, 2)  # [batch, HW / patch^2, embed]
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1)
        encoded: Tensor = self.encoder(tokens)
        return encoded[:, 0]
