"""How much each parameter of a trained model matters: the diagonal of its Fisher information.

The gradient of every image is squared by itself, without a loop over images: what entered a layer and what
comes back to it give the layer's gradient image by image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.models.heads import LinearHead
from workloads.training.squares import FORMULAS, Squares, block, has_formula, linear

Kind = Literal["labels", "expected", "batch_mean"]
CPU_IMAGES = 128
"""Images that pass through the model at once on a CPU: larger batches are cut, to bound the memory."""
MAPPED_BLOCK = 2**25
"""Gradients held at once where the model itself is mapped over images."""


def fisher_diagonal(
    model: Classifier,
    loss: Loss,
    batches: Iterable[tuple[Tensor, Tensor]],
    active: Tensor | None = None,
    kind: Kind = "labels",
) -> Squares:
    """The diagonal Fisher information of the model's trainable parameters, for elastic weight consolidation.

    ``labels``: the mean over images of the squared gradient of -log p(label), each image's own gradient.
    ``expected``: the same with its expectation over the model's own p(y | x) in place of the label; as many
    backward passes as there are classes. p is the softmax of ``eval_logits``, not the training criterion: a
    margin loss has no gradient on an image that keeps the margin, and that of a cosine loss grows with s.
    ``batch_mean``: the squared gradient of the training criterion's mean over a mini-batch, averaged over
    mini-batches, each of which counts the same (a smaller last one too); it depends on the batch size.

    Model and loss are in evaluation mode meanwhile, and put back; no ``grad`` is touched. Parameters of the
    loss (a learned scale) are left out: they belong to no task and no prediction depends on them. A model
    whose parameters are not all in linear, convolution and norm layers or its head loads torch's compiler.

    Args:
        batches: normalised images, float [batch, C, H, W], and labels, int64 [batch], on the model's device.
        active: classes that the softmax (or the criterion) sees, int64, on that device; None: all.
    Returns: by name of the parameter, in its shape and dtype, nats squared per unit squared.
    Raises: ValueError for an unknown kind, without images, or (checked on the CPU only) for a label that is
        not an active class.
    Source: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", eq. 3;
        ``batch_mean``: ``compute_importances`` of Avalanche, which is in evaluation mode too.
    Differs from source: Mammoth's online EWC weights the label's squared gradient by p(label), one term of
        ``expected``; no kind here does.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}; got {kind!r}")
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    totals = {name: torch.zeros_like(p) for name, p in trainable.items()}
    count = 0
    with _evaluating(model, loss), torch.enable_grad():
        for images, labels in batches:
            if len(images) == 0:
                continue
            if kind == "batch_mean":
                value = loss(model(images), labels, active)
                found = torch.autograd.grad(value, list(trainable.values()), allow_unused=True)
                _add(totals, {n: g.square() for n, g in zip(totals, found, strict=True) if g is not None})
            else:
                size = CPU_IMAGES if images.device.type == "cpu" else max(1, len(images))
                for some, theirs in zip(torch.split(images, size), torch.split(labels, size), strict=True):
                    _add_images(totals, model, loss, some, theirs, active, kind)
            count += 1 if kind == "batch_mean" else len(images)
    if count == 0:
        raise ValueError("the Fisher information needs at least one image; got none")
    return {name: total / count for name, total in totals.items()}


def _add_images(
    totals: Squares,
    model: Classifier,
    loss: Loss,
    images: Tensor,
    labels: Tensor,
    active: Tensor | None,
    kind: Kind,
) -> None:
    with _recording(model) as calls:
        output: HeadOutput = model(images)
    scores = _scores(loss, output, active)
    assert output.features is not None
    features = output.features.detach()
    covered = {f"{call.name}.{part}" for call in calls for part, _ in call.layer.named_parameters()}
    own = {f"head.{part}" for part, _ in model.head.named_parameters(recurse=False)}
    rest = totals.keys() - covered - own
    for cotangent in _cotangents(scores.detach(), labels, active, kind):
        if calls and scores.requires_grad:
            edges = [call.edge for call in calls]
            # As a number: a gradient given for a tensor makes torch load sympy.
            value = (scores * cotangent).sum()
            gradients = torch.autograd.grad(value, edges, retain_graph=True, allow_unused=True)
            for call, gradient in zip(calls, gradients, strict=True):
                if gradient is not None:
                    _add(totals, call.squares(gradient))
        if totals.keys() & own:
            _add(totals, _head(model, loss, features, cotangent, active))
        if rest:
            _add(totals, _mapped(model, loss, sorted(rest), images, cotangent, active))


def _add(totals: Squares, squares: Mapping[str, Tensor]) -> None:
    for name in totals.keys() & squares.keys():
        totals[name] += squares[name]


@contextmanager
def _evaluating(*modules: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _scores(loss: Loss, output: HeadOutput, active: Tensor | None) -> Tensor:
    # The columns first: a loss may have no value for a class that has not occurred, and then gives no number.
    return loss.eval_logits(output if active is None else output.columns(active))


def _cotangents(scores: Tensor, labels: Tensor, active: Tensor | None, kind: Kind) -> Iterator[Tensor]:
    """Gradients on the scores, [batch, columns]: the squares of what they become are to be summed."""
    classes = torch.arange(scores.shape[1], device=scores.device) if active is None else active
    p = scores.softmax(dim=1)
    if kind == "expected":
        for column in range(scores.shape[1]):
            yield p[:, column : column + 1].sqrt() * _slope(p, (classes == classes[column]).expand_as(p))
        return
    own = labels.unsqueeze(1) == classes
    if labels.device.type == "cpu" and not own.any(dim=1).all():
        wrong = int(labels[~own.any(dim=1)][0])
        raise ValueError(f"every label must be one of the active classes {classes.tolist()}; got {wrong}")
    yield _slope(p, own)


def _slope(p: Tensor, own: Tensor) -> Tensor:
    """The gradient of -log p of the class that is ``own`` on the scores: p - 1 there, p elsewhere."""
    # p - 1 as the sum of the others: a confident float32 p rounds to 1, and the image would not count.
    others = p.masked_fill(own, 0)
    return others - own * others.sum(dim=1, keepdim=True)


class _Call(NamedTuple):
    """One call of a layer whose parameters have a formula."""

    name: str
    layer: nn.Module
    x: Tensor
    """What entered, [batch, ...]."""
    version: int
    """How often ``x`` had been written to."""
    edge: GradientEdge
    """Where the gradient of what left comes back. Not the tensor: the next layer may write to that."""

    def squares(self, gradient: Tensor) -> Squares:
        assert self.x._version == self.version, f"the input of {self.name} was overwritten"
        parts = FORMULAS[type(self.layer)](self.layer, self.x, gradient)
        return {f"{self.name}.{part}": values for part, values in parts.items()}


@contextmanager
def _recording(model: Classifier) -> Iterator[list[_Call]]:
    """Fills the list with the calls of layers that have a formula, are called once and share no parameter."""
    calls: list[_Call] = []
    seen: list[_Call] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if output.requires_grad:
                x = inputs[0].detach()
                seen.append(_Call(name, layer, x, x._version, get_gradient_edge(output)))

        return record

    owners = Counter(id(p) for part in model.modules() for p in part.parameters(recurse=False))
    handles = [
        part.register_forward_hook(hook(name))
        for name, part in model.named_modules()
        if has_formula(part) and all(owners[id(p)] == 1 for p in part.parameters())
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(call.name for call in seen)
    calls += [call for call in seen if times[call.name] == 1]


def _head(
    model: Classifier, loss: Loss, features: Tensor, cotangent: Tensor, active: Tensor | None
) -> Squares:
    """The head's own weight and bias: a copy of them for every image, of which each image reads its own.

    That is right for every head, whose logits are each of one row, with scores that keep to a column. Only
    this project's losses are known to do so: others are asked an image at a time.
    """
    own = {name: p.detach() for name, p in model.head.named_parameters(recurse=False)}
    if type(model.head) is LinearHead and _plain(loss):
        squares = linear(features, _spread(cotangent, len(model.head.weight), active))
        return {f"head.{name}": squares[name] for name in own}
    classes, width = model.head.weight.shape
    size = _head_block(features, classes, width) if _columnwise(loss) else 1
    summed = {name: torch.zeros_like(p) for name, p in own.items()}
    columns = torch.arange(classes, device=features.device) if active is None else active
    for xs, gs in zip(torch.split(features, size), torch.split(cotangent, size), strict=True):
        n = len(xs)
        copies = {k: p.repeat(n, *[1] * (p.dim() - 1)).requires_grad_() for k, p in own.items()}
        output: HeadOutput = functional_call(model.head, copies, (xs,))
        if active is not None:
            starts = torch.arange(0, n * classes, classes, device=features.device)
            output = output.columns((starts.unsqueeze(1) + active).flatten())
        scores = loss.eval_logits(output._replace(classes=columns.repeat(n)))  # [n, n columns]
        # The diagonal of [n, n, columns]: what each image makes of its own copy.
        read = scores.reshape(n, n, -1).diagonal().T
        found = torch.autograd.grad((read * gs).sum(), list(copies.values()), allow_unused=True)
        for name, gradient in zip(summed, found, strict=True):
            if gradient is not None:
                summed[name] += gradient.square().reshape(n, *own[name].shape).sum(0)
    return {f"head.{name}": values for name, values in summed.items()}


def _head_block(features: Tensor, classes: int, width: int) -> int:
    """So many images that neither their n x n classes logits nor their weights are too many numbers."""
    return max(1, min(block(features, classes * width), int(block(features, classes) ** 0.5)))


def _spread(cotangent: Tensor, classes: int, active: Tensor | None) -> Tensor:
    """The gradient on all columns: zero on those that are not active."""
    if active is None:
        return cotangent
    return cotangent.new_zeros(len(cotangent), classes).index_copy_(1, active, cotangent)


def _plain(loss: Loss) -> bool:
    """Whether scores are the head's logits as they are."""
    return type(loss).restored is Loss.restored and type(loss).eval_logits is Loss.eval_logits


def _columnwise(loss: Loss) -> bool:
    parts = [type(part) for part in loss.modules() if isinstance(part, Loss)]
    written = [method.__module__ for part in parts for method in (part.restored, part.eval_logits)]
    return all(module.startswith("workloads.losses.") for module in written)


def _mapped(
    model: Classifier,
    loss: Loss,
    names: list[str],
    images: Tensor,
    cotangent: Tensor,
    active: Tensor | None,
) -> Squares:
    """Parameters without a formula (class token, positions, attention): torch maps the model over images."""
    fixed = {name: p.detach() for name, p in model.named_parameters()}
    chosen = {name: fixed[name] for name in names}

    def product(chosen: Mapping[str, Tensor], image: Tensor, back: Tensor) -> Tensor:
        output = functional_call(model, {**fixed, **chosen}, (image.unsqueeze(0),))
        return (_scores(loss, output, active)[0] * back).sum()

    gradients = vmap(grad(product), in_dims=(None, 0, 0))
    size = max(1, MAPPED_BLOCK // sum(p.numel() for p in chosen.values()))
    summed = {name: torch.zeros_like(p) for name, p in chosen.items()}
    for xs, gs in zip(torch.split(images, size), torch.split(cotangent, size), strict=True):
        # Of the ways to attend, the plain one is the only one that torch maps.
        with sdpa_kernel(SDPBackend.MATH):
            found = gradients(chosen, xs, gs)
        for name, gradient in found.items():
            summed[name] += gradient.square().sum(0)
    return summed
