"""Squared gradients of one layer, image by image: from what entered it and the gradient that comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Squares = dict[str, Tensor]
"""Squared gradients, summed over images, by name of the parameter."""
CPU_BLOCK, GPU_BLOCK = 2**18, 2**26
"""Numbers of one temporary tensor. On a CPU it should stay in cache: at 32 channels of 32x32, blocks of 8
images took two fifths of the time of blocks of 32."""


def has_formula(layer: nn.Module) -> bool:
    """Whether the squares of all of the layer's parameters can be computed here."""
    # Exactly these types: a subclass may compute something else, or be used for its weight alone.
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_mean is None:
        return False
    return type(layer) in FORMULAS


def block(x: Tensor, numbers: int) -> int:
    """How many images at once, if each needs so many ``numbers``."""
    return max(1, (CPU_BLOCK if x.device.type == "cpu" else GPU_BLOCK) // numbers)


def linear(x: Tensor, gradient: Tensor) -> Squares:
    """The squares of Z = XW' + b.

    One row an image: the square of an outer product is the product of the squares. More rows: in blocks.
    """
    if x.dim() == 2:
        squared = gradient.square()
        return {"weight": squared.T @ x.square(), "bias": squared.sum(0)}
    x, gradient = x.flatten(1, -2), gradient.flatten(1, -2)  # [batch, rows, in], [batch, rows, out]
    weight = x.new_zeros(gradient.shape[-1], x.shape[-1])
    size = block(x, weight.numel())
    for xs, gs in zip(torch.split(x, size), torch.split(gradient, size), strict=True):
        weight += (gs.transpose(1, 2) @ xs).square_().sum(0)
    return {"weight": weight, "bias": gradient.sum(1).square().sum(0)}


def _convolution(layer: nn.Conv2d, x: Tensor, gradient: Tensor) -> Squares:
    """In blocks of images, with the patches that each output pixel saw laid out as rows."""
    out, channels, high, wide = layer.weight.shape
    rows, columns = gradient.shape[-2:]
    vertical, horizontal = (int(p) for p in layer.padding)
    (down, across), (below, beside) = layer.stride, layer.dilation
    groups, pixels, taps = layer.groups, rows * columns, high * wide
    summed = x.new_zeros(out, taps * channels)
    size = min(len(x), block(x, taps * x.shape[1] * max(pixels, out // groups)))
    # Memory is asked for once: fresh pages can take longer than the products.
    patches = x.new_empty(size, groups, rows, columns, high, wide, channels)
    products = x.new_empty(size * groups, out // groups, taps * channels)
    for xs, gs in zip(torch.split(x, size), torch.split(gradient, size), strict=True):
        many = len(xs)
        padded = F.pad(xs, (horizontal, horizontal, vertical, vertical))
        n, c, h, w = padded.stride()
        seen = padded.as_strided(
            (many, groups, rows, columns, high, wide, channels),
            (n, channels * c, h * down, w * across, h * below, w * beside, c),
        )
        right = patches[:many].copy_(seen).reshape(many * groups, pixels, taps * channels)
        left = gs.reshape(many * groups, out // groups, pixels)
        product = torch.bmm(left, right, out=products[: many * groups])
        summed += product.square_().reshape(many, out, -1).sum(0)
    weight = summed.reshape(out, high, wide, channels).permute(0, 3, 1, 2)
    return {"weight": weight, "bias": gradient.sum((2, 3)).square().sum(0)}


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor, gradient: Tensor) -> Squares:
    """With the running statistics, so that no image depends on another."""
    normal = F.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
    return _scale_and_shift(normal, gradient, range(2, x.dim()))


def _layer_norm(layer: nn.LayerNorm, x: Tensor, gradient: Tensor) -> Squares:
    normal = F.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    return _scale_and_shift(normal, gradient, range(1, x.dim() - len(layer.normalized_shape)))


def _scale_and_shift(normal: Tensor, gradient: Tensor, shared: range) -> Squares:
    """``shared``: the dimensions of an image along which it uses the same scale."""
    weight, bias = normal * gradient, gradient
    if shared:
        weight, bias = weight.sum(tuple(shared)), bias.sum(tuple(shared))
    return {"weight": weight.square().sum(0), "bias": bias.square().sum(0)}


FORMULAS: Mapping[type[nn.Module], Callable[[Any, Tensor, Tensor], Squares]] = {
    nn.Linear: lambda _, x, gradient: linear(x, gradient),
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
}
"""From a layer, its input and the gradient on its output to the squares, by the parameter's own name."""
