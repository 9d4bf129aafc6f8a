"""The page on a user's own loss does what it says: its code trains, its study loads, its errors are these."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.study.loader import load_study
from workloads.contract import (
    DataConfig,
    DataFacts,
    EpochReport,
    EvaluationConfig,
    ModelConfig,
    NoiseConfig,
    TrainingConfig,
    TrialConfig,
)
from workloads.head import HeadSpec
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.run import prepare, run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "your-own-loss.md").read_text(encoding="utf-8")
PATH = "my_package.my_losses:Poly1"
CONTEXT = LossContext(60, 3, (20, 20, 20))
DATA = DataConfig("digits", id_classes=(0, 1, 2), near_ood=("held_out",), far_ood=("uniform",))
NOISE = NoiseConfig(sigmas=(0.25,), size=60)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's two modules, importable as a user's package."""
    folder = tmp_path / "my_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    first, second = blocks("python")
    (folder / "my_losses.py").write_text(first)
    (folder / "scales.py").write_text(second)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def facts(root: Path) -> DataFacts:
    return prepare(DATA, NOISE, root)


def trial(facts: DataFacts, loss: str, **params: float) -> TrialConfig:
    return TrialConfig(
        arm="mine",
        stage="confirm",
        protocol="standard",
        seed=0,
        loss=loss,
        loss_params=params,
        data=DATA,
        data_hash=facts.hash,
        model=ModelConfig("small_cnn_8x8", {"width": 4}),
        training=TrainingConfig(epochs=2, batch_size=64, lr=0.1),
        noise=NOISE,
        evaluation=EvaluationConfig(),
    )


def test_the_first_example_has_ten_lines_of_code() -> None:
    lines = [line.strip() for line in blocks("python")[0].splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 10


def test_the_example_computes_the_loss_that_it_names(package: Path) -> None:
    loss = build_loss(PATH, {"epsilon": 2.5}, CONTEXT)
    Z, y = np.array([[2.0, 0.0, -1.0], [0.5, 1.5, 0.0]]), np.array([0, 2])
    p = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
    expected = (-np.log(p[[0, 1], y]) + 2.5 * (1 - p[[0, 1], y])).mean()
    assert loss(torch.from_numpy(Z), torch.from_numpy(y)).item() == pytest.approx(expected, rel=1e-12)
    assert isinstance(loss, Loss)
    assert loss.splits
    assert loss.head == HeadSpec("linear")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        (PATH, {"epsilon": 2.0}),
        ("my_package.scales:LearnedScale", {"s": 8.0}),
        ("torch.nn:MultiMarginLoss", {"margin": 0.5}),
    ],
)
def test_the_examples_train_and_learn(
    package: Path, facts: DataFacts, root: Path, tmp_path: Path, path: str, params: dict[str, float]
) -> None:
    reports: list[EpochReport] = []
    config = trial(facts, path, **params)
    result = run(config, reports.append, folder=tmp_path / "trial", data_root=root)
    assert [report.epoch for report in reports] == [1, 2]
    assert [name for name, value in result.metrics.items() if not math.isfinite(value)] == []
    # Three classes: chance is 1/3.
    assert result.metrics["test/accuracy"] > 0.5
    assert reports[1].metrics["train/loss"] < reports[0].metrics["train/loss"]


def test_the_cosine_example_has_a_cosine_head_and_its_own_learning_rate(package: Path) -> None:
    loss = build_loss("my_package.scales:LearnedScale", {"s": 8.0}, CONTEXT)
    assert loss.head == HeadSpec("cosine")
    assert loss.lr_scale == 0.1
    assert [name for name, _ in loss.named_parameters()] == ["log_s"]
    cosines = torch.tensor([[0.5, -0.25, 0.0]])
    # exp(log(8)) in float32
    assert loss.eval_logits(cosines).tolist()[0] == pytest.approx([4.0, -2.0, 0.0], rel=1e-6)


def test_the_study_of_the_page_loads_and_searches_the_parameters_of_the_loss(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    (tmp_path / "poly.yaml").write_text(text)
    arm = load_study(tmp_path / "poly.yaml").arms["mine"]
    assert arm.loss == PATH
    assert {name: (term.kind, term.values) for name, term in arm.space.items()} == {
        "epsilon": ("uniform", (-1.0, 5.0)),
        "lr": ("log_uniform", (0.01, 0.4)),
    }


def test_the_errors_of_the_page_are_those_that_a_user_sees(package: Path) -> None:
    (text,) = blocks("text")
    missing, unexpected, shape = text.splitlines()
    with pytest.raises(ValueError, match=f"^{re.escape(unexpected)}$"):
        build_loss(PATH, {"eps": 1.0}, CONTEXT)

    module = package / "averaged.py"
    module.write_text((package / "my_losses.py").read_text().replace('reduction="none"', 'reduction="mean"'))
    loss = build_loss("my_package.averaged:Poly1", {}, CONTEXT)
    with pytest.raises(ValueError, match=f"^{re.escape(shape)}$"):
        loss(torch.zeros(64, 3), torch.zeros(64, dtype=torch.int64))

    package.rename(package.with_name("elsewhere"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]
    with pytest.raises(ValueError, match=f"^{re.escape(missing)}$"):
        build_loss(PATH, {}, CONTEXT)


def test_a_class_that_the_module_does_not_have_is_named(package: Path) -> None:
    message = "loss 'my_package.my_losses:Poly2' cannot be imported: .* has no attribute 'Poly2'"
    with pytest.raises(ValueError, match=message):
        build_loss("my_package.my_losses:Poly2", {}, CONTEXT)


def test_a_misspelt_need_is_refused(package: Path) -> None:
    text = (package / "scales.py").read_text()
    (package / "misspelt.py").write_text(text.replace('"cosine"', '"cosines"'))
    with pytest.raises(ValueError, match="'cosines'"):
        build_loss("my_package.misspelt:LearnedScale", {}, CONTEXT)


def test_what_the_page_says_a_loss_has_is_there() -> None:
    for name in (
        "value",
        "per_sample",
        "reduce",
        "needs",
        "head",
        "targets",
        "restored",
        "eval_logits",
        "lr_scale",
    ):
        assert name in PAGE
        assert hasattr(Loss, name)
    for name in ("set_progress", "of_classes", "track", "stats"):
        assert name in PAGE
        assert callable(getattr(Loss, name))
    for name in ("num_train", "num_classes", "class_counts", "active"):
        assert f"`{name}`" in PAGE
        assert name in LossContext.__annotations__
