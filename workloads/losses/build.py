"""Makes a loss from its name in the catalogue or from the import path of a user's own class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args

from torch import Tensor, nn

from workloads.catalogue import load
from workloads.head import HeadOutput
from workloads.losses.base import Loss, LossContext, Needs, Targets
from workloads.losses.catalogue import AUXILIARY, LOSSES
from workloads.losses.rules import not_negative
from workloads.losses.triplet import Triplet, WithTriplet


def build_loss(name: str, params: Mapping[str, Any], context: LossContext) -> Loss:
    """The loss ``name`` with ``params`` as the keywords of its constructor.

    Args:
        name: a catalogue name, or ``package.module:Class``: a :class:`Loss`, or any ``torch.nn.Module``
            called with (logits, labels) that returns a scalar.
        params: parameters by name; those left out stay at the constructor's defaults. Those of the auxiliary
            terms (``triplet``, ``triplet_margin``, ``triplet_mining``) are understood beside every loss.
        context: handed to a constructor that has a parameter of this name.
    Raises: ValueError where the name or a parameter is unknown or wrong.
    """
    entry = LOSSES.get(name)
    path = name if entry is None else entry.path
    if ":" not in path:
        raise ValueError(
            f"loss must be one of {', '.join(LOSSES)} or an import path package.module:Class; got {name!r}"
        )
    constructor = _load(path)
    accepted = inspect.signature(constructor).parameters
    keywords = {key: value for key, value in params.items() if key in accepted or key not in AUXILIARY}
    extra = _auxiliary({key: value for key, value in params.items() if key not in keywords})
    if "context" in accepted:
        keywords["context"] = context
    try:
        inspect.signature(constructor).bind(**keywords)
    except TypeError as problem:
        known = ", ".join(p for p in accepted if p not in {"context", "self"}) or "none"
        raise ValueError(f"loss {name!r}: {problem}; its parameters are: {known}") from problem
    loss = constructor(**keywords)
    built = loss if isinstance(loss, Loss) else PlainLoss(loss)
    for attribute, words in (("needs", get_args(Needs)), ("targets", get_args(Targets))):
        if getattr(built, attribute) not in words:
            raise ValueError(
                f"loss {name!r}: {attribute} must be one of {', '.join(words)}; "
                f"got {getattr(built, attribute)!r}"
            )
    return built if extra is None else extra(built)


class PlainLoss(Loss):
    """A user's module that knows nothing of :class:`Loss`: called with (logits, labels), hard labels only."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise ValueError(f"a loss must be a torch.nn.Module; got {type(module).__name__}")
        self.module = module

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        value: Tensor = self.module(output.logits, targets)
        return value


def _auxiliary(params: Mapping[str, Any]) -> Callable[[Loss], Loss] | None:
    """What adds the auxiliary terms of ``params`` to a loss; None where their weight is zero."""
    given = {key: parameter.default for key, parameter in AUXILIARY.items()} | dict(params)
    weight = not_negative("an auxiliary term", "triplet", given["triplet"])
    term = Triplet(given["triplet_margin"], given["triplet_mining"])
    return (lambda base: WithTriplet(base, term, weight)) if weight > 0 else None


def _load(path: str) -> Any:
    try:
        return load(path)
    except (ImportError, AttributeError) as problem:
        raise ValueError(
            f"loss {path!r} cannot be imported: {problem}. "
            "The package must be importable on every machine that trains"
        ) from problem
