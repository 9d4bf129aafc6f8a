"""Parameters that a loss cannot have are refused, with the loss, the parameter, the rule and the value."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from workloads.catalogue import Parameter
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.catalogue import AUXILIARY, LOSSES

CONTEXT = LossContext(620, 3, (500, 100, 20))
NAN, INF = math.nan, math.inf


def numbers() -> list[Any]:
    """Every number parameter of every entry, with what lies outside of its range and what is no number."""
    cases: list[Any] = []
    for name, entry in LOSSES.items():
        for key, parameter in entry.parameters.items():
            if parameter.kind in ("float", "int"):
                wrong: list[Any] = [NAN, INF, "0.5", True, None, *outside(parameter)]
                # None stands for the default of HEM's margin.
                values = [v for v in wrong if not (v is None and (name, key) == ("hem", "mu"))]
                cases.extend(pytest.param(name, key, v, id=f"{name}-{key}-{v!r}") for v in values)
    return cases


def outside(parameter: Parameter) -> list[float]:
    wrong: list[float] = []
    if parameter.low is not None:
        wrong.append(parameter.low if parameter.low_open else parameter.low - 1)
    if parameter.low is not None and parameter.kind == "float":
        wrong.append(-0.1)
    if parameter.high is not None:
        wrong.append(parameter.high + 1)
    if parameter.kind == "int":
        wrong.append(2.5)
    return wrong


def words() -> list[Any]:
    cases: list[Any] = []
    for name, entry in LOSSES.items():
        for key, parameter in entry.parameters.items():
            if parameter.kind == "choice":
                cases.extend(pytest.param(name, key, v, id=f"{name}-{key}-{v!r}") for v in ("nonsense", ""))
    return cases


@pytest.mark.parametrize(("name", "key", "value"), numbers())
def test_a_number_that_a_loss_cannot_have_is_refused(name: str, key: str, value: Any) -> None:
    message = rf"^{name}: {key} (must|takes) .*; got {re.escape(repr(value))}$"
    with pytest.raises(ValueError, match=message):
        build_loss(name, {key: value}, CONTEXT)


@pytest.mark.parametrize(("name", "key", "value"), words())
def test_a_word_that_a_loss_does_not_know_is_refused(name: str, key: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: {key} must be .* or .*; got {value!r}$") as refusal:
        build_loss(name, {key: value}, CONTEXT)
    for choice in LOSSES[name].parameters[key].choices:
        assert str(choice) in str(refusal.value)


@pytest.mark.parametrize("value", ["no", 1, None])
@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name in LOSSES for key, p in LOSSES[name].parameters.items() if p.kind == "bool"],
)
def test_a_switch_that_is_neither_on_nor_off_is_refused(name: str, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: {key} must be true or false; got {value!r}$"):
        build_loss(name, {key: value}, CONTEXT)


@pytest.mark.parametrize("name", LOSSES)
def test_a_parameter_that_a_loss_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"loss '{name}': .*'temprature'; its parameters are: ") as refusal:
        build_loss(name, {"temprature": 1.0}, CONTEXT)
    for key in LOSSES[name].parameters:
        assert key in str(refusal.value)


@pytest.mark.parametrize(
    "name",
    [name for name, entry in LOSSES.items() if entry.family == "Class frequencies"] + ["hem_plus"],
)
def test_a_class_without_an_image_is_refused_where_classes_are_counted(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: every class must have .*; got class_counts\[1\] = 0$"):
        build_loss(name, {}, LossContext(520, 3, (500, 0, 20)))


@pytest.mark.parametrize("weights", ["inverse", "effective"])
@pytest.mark.parametrize(("name", "key"), [("cross_entropy", "class_weights"), ("focal", "alpha")])
def test_class_weights_by_number_need_an_image_of_every_class(name: str, key: str, weights: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: every class must have .*; got class_counts\[1\] = 0$"):
        build_loss(name, {key: weights}, LossContext(520, 3, (500, 0, 20)))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("hem", {"mu": {"scale": 0.0}}, r"^hem: mu\.scale must be above 0; got 0\.0$"),
        ("hem", {"mu": {"scale": NAN}}, r"^hem: mu\.scale must be above 0; got nan$"),
        ("hem", {"mu": {"ratio": 1.0}}, r"^hem: mu takes a number or the expression scale; got \{'ratio'"),
        ("hem", {"mu": {}}, r"^hem: mu takes a number or the expression scale; got \{\}$"),
        ("hem", {"mu": {"scale": 1.0, "x": 1.0}}, r"^hem: mu takes a number or the expression scale; got"),
        ("normface", {"s": {"log_classes": -1.0}}, r"^normface: s\.log_classes must be above 0; got -1\.0$"),
        ("normface", {"s": {"gap": 1.0}}, r"^normface: s takes a number or the expression log_classes; got"),
        ("arcgrad", {"s": {"gap": 0.0}}, r"^arcgrad: s\.gap must be above 0; got 0\.0$"),
        ("arcgrad", {"s": {"scale": 1.0}}, r"^arcgrad: s takes .* gap or gap_as_published; got"),
        ("cross_entropy", {"class_weights": [1.0, 2.0]}, r"^cross_entropy: class_weights must .*; got 2$"),
        (
            "cross_entropy",
            {"class_weights": [1.0, 0.0, 2.0]},
            r"class_weights\[1\] must be above 0; got 0\.0",
        ),
        ("focal", {"alpha": [1.0, NAN, 2.0]}, r"^focal: alpha\[1\] must be above 0; got nan$"),
        ("meln", {"T": 2.0}, r"^meln: T must be in 0\.01\.\.1 where it is held there; got 2\.0$"),
        (
            "meln",
            {"T": 0.5, "temperature": "multiply"},
            r"^meln: T must be in 1\.\.100 where it is held there; got 0\.5$",
        ),
        ("l_softmax", {"lambda_start": 1.0, "lambda_min": 2.0}, r"^l_softmax: lambda_start must be at least"),
        ("ldam", {"beta": 1.0}, r"^ldam: beta must be below 1; got 1\.0$"),
        ("cross_entropy", {"triplet": -1.0}, r": triplet must be at least 0; got -1\.0$"),
        ("cosface", {"triplet": 1.0, "triplet_margin": -1.0}, r"^triplet: margin must be at least 0; got"),
        ("cosface", {"triplet": 1.0, "triplet_mining": "hard"}, r"^triplet: mining must be .*; got 'hard'$"),
    ],
)
def test_other_wrong_parameters_are_refused(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_loss(name, params, CONTEXT)


@pytest.mark.parametrize("name", LOSSES)
def test_the_bounds_of_the_catalogue_are_valid_themselves(name: str) -> None:
    for key, parameter in LOSSES[name].parameters.items():
        bounds: list[Any] = [
            None if parameter.low_open else parameter.low,
            parameter.high,
            *(parameter.search.values if parameter.search else ()),
            *parameter.choices,
        ]
        for value in bounds:
            if value is not None:
                # The inverse temperature starts elsewhere.
                T = {"T": 10.0} if value == "multiply" else {}
                assert isinstance(build_loss(name, {key: value, **T}, CONTEXT), Loss)


def test_a_triplet_of_weight_zero_is_left_out() -> None:
    params = dict.fromkeys(AUXILIARY, 0.0) | {"triplet_mining": "batch_all"}
    assert type(build_loss("bce", params, CONTEXT)) is type(build_loss("bce", {}, CONTEXT))
