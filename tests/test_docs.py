"""What README and docs show is true of the code: pages, links, studies, losses, commands."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from orchestrator.arguments import make_parser
from orchestrator.cli import main
from orchestrator.study.loader import parse_study

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A study that a fragment of one is shown for.
BASE: dict[str, Any] = {
    "study": "shown",
    "data": {"source": "cifar10", "near_ood": ["cifar100"], "far_ood": ["svhn"]},
    "model": "wrn_16_2",
    "arms": {"cross_entropy": {"lr": {"log_uniform": [0.01, 0.4]}}, "logitnorm": {}},
}
FILES = dict.fromkeys(("STUDY.yaml", "my.yaml", "..."), "studies/quickstart.yaml")
"""What a placeholder stands for."""


def blocks(language: str) -> list[Any]:
    """Every fenced block of a language: page and text."""
    return [
        pytest.param(text, id=f"{page.name}-{number}")
        for page in PAGES
        for number, text in enumerate(fenced(page.read_text(), language))
    ]


def fenced(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands() -> Iterator[str]:
    """Every command line that a page shows, in a block or within a sentence."""
    for page in PAGES:
        text = page.read_text()
        shown = [line for body in fenced(text) for line in body.splitlines()]
        shown += re.findall(r"`((?:orchestrate|make|python -m) [^`\n]+)`", text)
        shown += re.findall(r"^ {4}(orchestrate .*)$", text, re.M)
        for line in shown:
            words = line.split("#")[0].strip()
            if re.match(r"(orchestrate|make|python -m|\.venv/bin/python -m) ", words):
                yield re.sub(r"^\.venv/bin/", "", words)


ORCHESTRATE = sorted({line for line in commands() if line.startswith("orchestrate ")})


def words_of(line: str) -> list[str]:
    """The command's words, with something real in the place of every placeholder."""
    words = shlex.split(line)[1:]
    return [FILES.get(word, "small" if word in ("STUDY", "NAME") else word) for word in words]


def test_the_pages_that_follow_from_the_code_are_current() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "generate.py"))["PAGES"]
    assert set(made) == {"losses.md", "study-file.md"}
    for name, page in made.items():
        assert (ROOT / "docs" / name).read_text() == page(), f"docs/{name} is out of date: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_study_that_is_shown_is_read_and_planned(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = yaml.safe_load(text)
    if "study" not in shown:
        # Longer trials than the fragment needs would do, too: only what is shown is tested.
        shown = {**BASE, **shown}
        text = yaml.safe_dump(shown, sort_keys=False)
    assert parse_study(text, "shown.yaml").name == shown["study"]
    path = tmp_path / "shown.yaml"
    path.write_text(text)
    assert main(["plan", str(path), "--out", str(tmp_path)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("text", blocks("python"))
def test_every_loss_that_is_shown_can_be_trained_with(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workloads.head import HeadOutput
    from workloads.losses.base import Loss

    (tmp_path / "shown_losses.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shown_losses", raising=False)
    module = importlib.import_module("shown_losses")
    classes = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Loss)]
    (loss,) = [each() for each in classes if each is not Loss]
    logits = torch.tensor([[0.9, -0.3, 0.1], [0.2, 0.4, -0.8]], requires_grad=True)
    value = loss(HeadOutput(logits, torch.randn(2, 4)), torch.tensor([0, 1]))
    value.backward()
    assert value.shape == ()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


def test_commands_are_found() -> None:
    assert len(ORCHESTRATE) > 15
    assert "orchestrate submit studies/quickstart.yaml --to local" in ORCHESTRATE


@pytest.mark.parametrize("line", ORCHESTRATE)
def test_every_command_that_is_shown_is_one(line: str) -> None:
    words = words_of(line)
    # "orchestrate submit" in a sentence names a command, and leaves out what it needs.
    if len(words) == 1:
        assert subprocess_help(words[0]) == 0
        return
    arguments = make_parser().parse_args(words)
    study = getattr(arguments, "study", None)
    if study and study.endswith(".yaml"):
        assert (ROOT / study).exists(), study


def subprocess_help(command: str) -> int:
    return main([command, "--help"])


READ_ONLY = ("validate", "list", "data list")


@pytest.mark.parametrize("line", [each for each in ORCHESTRATE if each[12:].startswith(READ_ONLY)])
def test_every_command_that_only_looks_runs(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = words_of(line)
    assert main(["validate", str(ROOT / FILES["STUDY.yaml"])] if words == ["validate"] else words) == 0
    assert len(capsys.readouterr().out) > 50


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.name)
def test_every_study_of_the_repository_is_valid_and_can_be_planned(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(path)]) == 0
    assert main(["plan", str(path), "--out", str(tmp_path)]) == 0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("line", sorted({each for each in commands() if each.startswith("make ")}))
def test_every_target_of_make_that_is_shown_exists(line: str) -> None:
    target = line.split()[1]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.M), target


BENCHMARKS = sorted({each for each in commands() if each.startswith("python -m benchmarks")})


@pytest.mark.parametrize("line", BENCHMARKS)
def test_every_benchmark_that_is_shown_has_its_options(line: str) -> None:
    _, _, module, *words = shlex.split(line)
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert '__name__ == "__main__"' in source
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in source, word
