"""What a loss is handed: checked, cut to the images and classes that count, and in at least float32."""

from __future__ import annotations

import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from workloads.head import HeadOutput

HALF = (torch.float16, torch.bfloat16)


class Inputs(NamedTuple):
    """A batch as the formulas see it."""

    output: HeadOutput
    """float32 or float64; its columns are the active classes."""
    targets: Tensor
    """Positions among the columns, int64 [batch], or probabilities [batch, columns]."""
    weights: Tensor | None
    """What each image counts, [batch]; None: all the same."""


def prepare(
    output: HeadOutput,
    labels: Tensor,
    active: Tensor | None,
    ignore_index: int | None,
    weights: Tensor | None,
) -> Inputs:
    """The images that count and the columns ``active``, widened.

    Args: those of ``Loss.forward``; shapes of output and labels are checked already.
    Raises: ValueError where the weights, the labels or ``active`` are wrong; what stands in a tensor is
        looked at on the CPU only, because asking a GPU would make every step wait for it.
    """
    if weights is not None:
        _check_shape(weights, len(labels))
    if ignore_index is not None and not labels.is_floating_point():
        kept = labels != ignore_index
        output, labels = output.rows(kept), labels[kept]
        weights = None if weights is None else weights[kept]
    _check_range(labels, output.logits.shape[1])
    if active is not None:
        output, labels = _select(output, labels, active)
    output = widened(output)
    if labels.is_floating_point():
        labels = labels.to(output.logits.dtype)
    if weights is not None:
        _check_weights(weights)
        weights = weights.to(output.logits.dtype)
    return Inputs(output, labels, weights)


def check_shapes(name: str, needs: str, targets: str, output: HeadOutput, labels: Tensor) -> None:
    """Raises: ValueError where output or labels are not what the loss ``name`` needs."""
    if output.logits.ndim != 2:
        raise ValueError(f"{name}: logits must be [batch, classes]; got {list(output.logits.shape)}")
    if needs == "features+fc" and (output.features is None or output.weight is None):
        raise ValueError(f"{name} needs the features and weights of a linear head; got logits alone")
    expected = list(output.logits.shape)
    if labels.is_floating_point():
        if targets == "hard":
            raise ValueError(
                f"{name} needs class indices; got soft targets ({labels.dtype}). "
                "Mixup, label smoothing and distillation need a loss with soft targets"
            )
    elif labels.dtype != torch.int64:
        raise ValueError(f"{name}: labels must be int64 class indices; got {labels.dtype}")
    else:
        del expected[1]
    if list(labels.shape) != expected:
        what = "soft targets" if labels.is_floating_point() else "labels"
        raise ValueError(
            f"{name}: {what} must have shape {expected}, as the logits have; got {list(labels.shape)}"
        )


def widened(output: HeadOutput) -> HeadOutput:
    """Half-precision outputs in float32; others as they are."""
    if output.logits.dtype not in HALF:
        return output
    parts = (t.float() if t is not None and t.is_floating_point() else t for t in output)
    return HeadOutput(*parts)  # type: ignore[arg-type]


def _readable(tensor: Tensor) -> bool:
    """Whether looking into a tensor costs nothing: on the CPU, outside of a compiled graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _check_range(labels: Tensor, classes: int) -> None:
    if labels.is_floating_point() or not _readable(labels) or len(labels) == 0:
        return
    lowest, highest = (int(label) for label in labels.aminmax())
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"labels must be class indices in 0..{classes - 1}; got {wrong}")


def _select(output: HeadOutput, labels: Tensor, active: Tensor) -> tuple[HeadOutput, Tensor]:
    """Columns ``active``, and labels renumbered to them.

    Writing -inf into the others instead would make a norm infinite and a mean over classes wrong.
    """
    position = _positions(active, output.logits.shape[1])
    if labels.is_floating_point():
        return output.columns(active), labels[:, active]
    renumbered = position[labels]
    if _readable(labels) and (renumbered < 0).any():
        wrong = int(labels[renumbered < 0][0])
        raise ValueError(f"every label must be one of the active classes {active.tolist()}; got {wrong}")
    return output.columns(active), renumbered


def _positions(active: Tensor, classes: int) -> Tensor:
    """Where each class stands among the active ones, int64 [classes]; -1: nowhere. Checks ``active``."""
    known = _KNOWN.get(id(active))
    # An id comes back once its tensor is gone, and a tensor may be written to.
    if known is not None and known.of() is active and known.state == (active._version, classes):
        return known.position
    _check_active(active, classes)
    position = active.new_full((classes,), -1)
    position[active] = torch.arange(len(active), device=active.device)
    if len(_KNOWN) >= _MOST_KNOWN:
        _KNOWN.clear()
    _KNOWN[id(active)] = _Known(weakref.ref(active), (active._version, classes), position)
    return position


class _Known(NamedTuple):
    of: weakref.ref[Tensor]
    state: tuple[int, int]
    position: Tensor


_KNOWN: dict[int, _Known] = {}
"""A task's columns are the same tensor at every step; looking into it again would take longer than a small
loss."""
_MOST_KNOWN = 256


def _check_active(active: Tensor, classes: int) -> None:
    if len(active) == 0:
        raise ValueError("active must name at least one class; got none")
    if not _readable(active):
        return
    named = active.tolist()
    if len(set(named)) < len(named) or not set(named) <= set(range(classes)):
        raise ValueError(f"active must name classes in 0..{classes - 1}, each once; got {named}")


def _check_shape(weights: Tensor, batch: int) -> None:
    if not weights.is_floating_point():
        raise ValueError(f"weights must be floating-point numbers; got {weights.dtype}")
    if list(weights.shape) != [batch]:
        raise ValueError(f"weights must have shape {[batch]}, one an image; got {list(weights.shape)}")


def _check_weights(weights: Tensor) -> None:
    if not _readable(weights) or len(weights) == 0:
        return
    wrong = weights[~(weights.isfinite() & (weights >= 0))]
    if len(wrong):
        raise ValueError(f"weights must be finite and at least 0; got {wrong[0].item()!r}")
    if not weights.any():
        raise ValueError("weights must not all be 0")
