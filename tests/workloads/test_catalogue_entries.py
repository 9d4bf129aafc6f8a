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
from workloads.catalogue import Entry, Parameter
from workloads.losses.base import LossContext
from workloads.losses.catalogue import LOSSES
from workloads.losses.hem import HighErrorMargin
from workloads.models.catalogue import MODELS

PACKAGE = Path(workloads.__file__).parent
FORBIDDEN = {"ray", "optuna", "mlflow", "yaml", "orchestrator"}


def constructor_of(entry: Entry) -> Any:
    assert entry.path is not None
    module, _, attribute = entry.path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def own_parameters(constructor: Any) -> dict[str, inspect.Parameter]:
    given = {"context", "image_shape", "num_classes"}
    return {k: v for k, v in inspect.signature(constructor).parameters.items() if k not in given}


@pytest.mark.parametrize("name", LOSSES)
def test_a_losss_entry_says_what_its_class_takes_and_needs(name: str) -> None:
    entry = LOSSES[name]
    constructor = constructor_of(entry)
    assert entry.name == name
    assert set(entry.parameters) == set(own_parameters(constructor))
    assert entry.facts["head"] == constructor.needs
    assert entry.facts["targets"] == constructor.targets
    assert 0 < entry.facts["lr_low"] <= entry.facts["lr"] <= entry.facts["lr_high"]  # type: ignore[operator]


@pytest.mark.parametrize("name", [name for name, entry in MODELS.items() if entry.path])
def test_a_models_entry_says_what_its_class_takes(name: str) -> None:
    assert MODELS[name].name == name
    assert set(MODELS[name].parameters) == set(own_parameters(constructor_of(MODELS[name])))


@pytest.mark.parametrize("entry", [*LOSSES.values(), *MODELS.values()], ids=lambda entry: entry.name)
def test_a_default_is_the_constructors_own_and_within_its_range(entry: Entry) -> None:
    signature = own_parameters(constructor_of(entry)) if entry.path else {}
    for name, parameter in entry.parameters.items():
        if name in signature and name != "mu":
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


def test_a_model_that_cannot_run_yet_says_so() -> None:
    assert MODELS["wrn_40_2"].path is None
    assert "later" in MODELS["wrn_40_2"].missing


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


def inside(parameter: Parameter, value: Any) -> bool:
    low = parameter.low is None or (value > parameter.low if parameter.low_open else value >= parameter.low)
    return low and (parameter.high is None or value <= parameter.high)
