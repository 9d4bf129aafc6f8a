"""Optimisers of a recipe: which parameters each one trains, with which decay and at which rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workloads.contract import TrainingConfig
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.training.uncompiled import plain_step, unguard


class Optimizers:
    """One or two optimisers that step together; the interface of one."""

    def __init__(self, members: Sequence[torch.optim.Optimizer]) -> None:
        self.members = list(members)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for member in self.members for group in member.param_groups]

    def set_rate(self, rate: float) -> None:
        """The learning rate of every group: ``rate`` times its own ``lr_scale``."""
        for group in self.param_groups:
            group["lr"] = rate * group["lr_scale"]

    def zero_grad(self) -> None:
        for member in self.members:
            member.zero_grad(set_to_none=True)

    def step(self) -> None:
        for member in self.members:
            plain_step(member)

    def state_dict(self) -> list[dict[str, Any]]:
        return [member.state_dict() for member in self.members]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        for member, state in zip(self.members, states, strict=True):
            member.load_state_dict(state)


class MatrixMuon(torch.optim.Muon):
    """torch's Muon, also for convolutions: each is updated as its matrix [out, in x height x width].

    The matrix is a view of the weight, so nothing is copied; in which order its columns stand (channels last
    or not) does not matter to an orthogonalised step.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; torch.optim.Muon.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], **settings: Any) -> None:
        self.weights: list[nn.Parameter] = []
        self.matrices: list[nn.Parameter] = []
        flat = []
        for group in groups:
            matrices = [nn.Parameter(_as_matrix(p.detach())) for p in group["params"]]
            self.weights += group["params"]
            self.matrices += matrices
            flat.append({**group, "params": matrices})
        super().__init__(flat, **settings)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step; a closure, which torch's own optimisers take, is not used here."""
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            matrix.grad = None if weight.grad is None else _as_matrix(weight.grad, like=weight)
        plain_step(self, torch.optim.Muon)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight, matrix in zip(self.weights, self.matrices, strict=True):
            weight.grad = None
            matrix.grad = None


def build_optimizer(model: Classifier, loss: Loss, config: TrainingConfig) -> Optimizers:
    """The optimiser of the recipe.

    A loss's own parameters are a group without weight decay, at the loss's multiple of the learning rate; so
    are, at the full rate, those of the model that must not be decayed: a head's, and with
    ``decay_norms_and_biases: false`` every bias and every scale and shift of a norm. ``muon`` trains the
    matrices of the trunk (linear and convolution weights but the first layer's), AdamW the rest.
    """
    unguard()
    groups = list(_groups(model, loss, config))
    if config.optimizer == "adamw":
        return Optimizers([torch.optim.AdamW(groups, lr=config.lr)])
    if config.optimizer == "muon":
        matrices, rest = _split(groups, _hidden_matrices(model))
        if not matrices:
            raise ValueError("training.optimizer: muon needs a trunk of two or more weight matrices")
        muon = MatrixMuon(
            matrices,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            # One learning rate for both: Muon's steps are as long as AdamW's.
            adjust_lr_fn="match_rms_adamw",
        )
        return Optimizers([muon, torch.optim.AdamW(rest, lr=config.lr)])
    sgd = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    return Optimizers([sgd])


def _groups(model: Classifier, loss: Loss, config: TrainingConfig) -> Iterator[dict[str, Any]]:
    undecayed = {id(p) for p in model.undecayed()}
    if not config.decay_norms_and_biases:
        undecayed |= {id(p) for p in model.parameters() if p.ndim < 2}
    trained = [p for p in model.parameters() if p.requires_grad]
    own = [p for p in loss.parameters() if p.requires_grad]
    for params, decay, scale in (
        ([p for p in trained if id(p) not in undecayed], config.weight_decay, 1.0),
        ([p for p in trained if id(p) in undecayed], 0.0, 1.0),
        (own, 0.0, loss.lr_scale),
    ):
        if params:
            yield {"params": params, "weight_decay": decay, "lr_scale": scale}


def _hidden_matrices(model: Classifier) -> set[int]:
    """The ids of the trunk's weights of two or more dimensions but the first, which sees the pixels."""
    weights = [p for p in model.trunk.parameters() if p.ndim >= 2]
    return {id(p) for p in weights[1:]}


def _split(
    groups: Sequence[dict[str, Any]], chosen: set[int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Every group in two: its chosen parameters, and the others; empty groups are left out."""
    parts: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
    for group in groups:
        for part, is_chosen in zip(parts, (True, False), strict=True):
            params = [p for p in group["params"] if (id(p) in chosen) == is_chosen]
            if params:
                part.append({**group, "params": params})
    return parts


def _as_matrix(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """[out, everything else], a view; the columns in the memory order of ``like``."""
    order = tensor if like is None else like
    if order.ndim == 4 and not order.is_contiguous():
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(len(tensor), -1)
