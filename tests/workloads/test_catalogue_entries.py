"""The catalogues of losses and models against what they describe, and what importing a catalogue costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import workloads
from orchestrator.study.loader import load_study
from workloads.catalogue import Entry, Parameter, Term
from workloads.losses.base import LossContext
from workloads.losses.build import build_loss
from workloads.losses.catalogue import LOSSES
from workloads.losses.hem import HighErrorMargin
from workloads.models.catalogue import MODELS

CONTEXT = LossContext(num_train=600, num_classes=4, class_counts=(300, 150, 100, 50))
PACKAGE = Path(workloads.__file__).parent
FORBIDDEN = {"ray", "optuna", "mlflow", "yaml", "orchestrator"}


def constructor_of(entry: Entry) -> Any:
    assert entry.path is not None
    module, _, attribute = entry.path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def own_parameters(constructor: Any) -> dict[str, inspect.Parameter]:
    given = {"context", "image_shape"}
    return {k: v for k, v in inspect.signature(constructor).parameters.items() if k not in given}


@pytest.mark.parametrize("name", LOSSES)
def test_a_losss_entry_says_what_its_class_takes_and_needs(name: str) -> None:
    entry = LOSSES[name]
    constructor = constructor_of(entry)
    assert entry.name == name
    assert set(entry.parameters) == set(own_parameters(constructor))
    loss = build_loss(name, {}, CONTEXT)
    assert entry.facts["head"] == constructor.needs == loss.needs
    assert entry.facts["targets"] == loss.targets
    assert entry.family
    assert entry.lr is not None
    assert entry.lr.search is not None
    assert isinstance(entry.lr.default, float)
    assert (
        min(map(float, entry.lr.search.values)) <= entry.lr.default <= max(map(float, entry.lr.search.values))
    )


@pytest.mark.parametrize("name", LOSSES)
def test_every_word_that_an_entry_offers_builds_and_another_is_refused(name: str) -> None:
    for key, parameter in LOSSES[name].parameters.items():
        for word in parameter.choices:
            # A held T that multiplies is 1 to 100.
            others = {"T": 10.0} if word == "multiply" else {}
            build_loss(name, {**others, key: word}, CONTEXT)
        for expression, of in parameter.expressions.items():
            build_loss(name, {key: {expression: of.default}}, CONTEXT)
        if parameter.kind == "choice":
            with pytest.raises(ValueError, match=f"{name}: {key} must be .*; got 'nonsense'"):
                build_loss(name, {key: "nonsense"}, CONTEXT)


@pytest.mark.parametrize("name", LOSSES)
def test_a_number_outside_an_entrys_range_is_refused_by_the_loss_too(name: str) -> None:
    for key, parameter in LOSSES[name].parameters.items():
        if parameter.kind in ("float", "int"):
            for wrong in outside(parameter):
                with pytest.raises(ValueError, match=rf"{name}: {key} must be .*; got {wrong!r}"):
                    build_loss(name, {key: wrong}, CONTEXT)


def test_the_study_of_all_losses_has_every_loss_at_its_recommended_rate() -> None:
    spec = load_study(PACKAGE.parent / "studies" / "all_losses_digits.yaml")
    assert {arm.loss for arm in spec.arms.values()} == set(LOSSES)
    for name, entry in LOSSES.items():
        assert entry.lr is not None
        assert isinstance(entry.lr.default, float)
        assert spec.arms[name].space == {"lr": Term("fixed", (entry.lr.default,))}


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.path])
def test_a_models_entry_says_what_its_class_takes(name: str) -> None:
    assert MODELS[name].name == name
    assert set(MODELS[name].parameters) == set(own_parameters(constructor_of(MODELS[name])))


@pytest.mark.parametrize("entry", [*LOSSES.values(), *MODELS.values()], ids=lambda entry: entry.name)
def test_a_default_is_the_constructors_own_and_within_its_range(entry: Entry) -> None:
    signature = own_parameters(constructor_of(entry)) if entry.path else {}
    for name, parameter in entry.parameters.items():
        if name in signature and (entry.name, name) != ("hem", "mu"):
            assert signature[name].default == parameter.default
        every = [parameter, *parameter.expressions.values()]
        for each in every:
            assert not isinstance(each.default, float | int) or inside(each, each.default)
            assert each.search is None or all(inside(each, value) for value in each.search.values)
        assert not parameter.choices or parameter.default in parameter.choices


def test_the_default_margin_of_hem_is_the_catalogues() -> None:
    context = LossContext(num_train=578, num_classes=6, class_counts=(97, 97, 96, 96, 96, 96))
    default = LOSSES["hem"].parameters["mu"].default
    assert isinstance(default, dict)
    assert HighErrorMargin(context=context).mu == HighErrorMargin(mu=default, context=context).mu


@pytest.mark.parametrize(
    "module",
    [
        "workloads.contract",
        "workloads.losses.catalogue",
        "workloads.models.catalogue",
        "workloads.data.catalogue",
        "workloads.evaluation.catalogue",
        "workloads.run",
    ],
)
def test_importing_it_does_not_import_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=False).returncode == 0


def test_nothing_in_workloads_imports_what_belongs_to_the_orchestrator() -> None:
    found = {
        (path.name, name)
        for path in PACKAGE.rglob("*.py")
        for name in imported(path)
        if name.partition(".")[0] in FORBIDDEN
    }
    assert found == set()


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return names


def outside(parameter: Parameter) -> list[float]:
    """Numbers just beyond its bounds, and one that is none."""
    found = [float("nan"), float("inf")] if parameter.kind == "float" else [2.5]
    if parameter.low is not None:
        found.append(parameter.low if parameter.low_open else parameter.low - 1)
    if parameter.high is not None:
        found.append(parameter.high + 1)
    return found


def inside(parameter: Parameter, value: Any) -> bool:
    low = parameter.low is None or (value > parameter.low if parameter.low_open else value >= parameter.low)
    return low and (parameter.high is None or value <= parameter.high)
