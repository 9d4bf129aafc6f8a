"""Every bad study is refused with its place, the rule and a hint; exit code 2; nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.orchestrator.bad_arms import ARM_CASES
from tests.orchestrator.bad_protocols import PROTOCOL_CASES
from tests.orchestrator.bad_studies import CASES, GOOD, Case


def _refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | bytes) -> tuple[Path, str]:
    """Validate, plan and study all refuse the text, alike, and write nothing; the message."""
    file = tmp_path / "bad.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    messages = set()
    for command in (
        ["validate"],
        ["plan", "--out", str(tmp_path / "runs")],
        ["study", "--out", str(tmp_path / "runs")],
    ):
        assert main([*command, str(file)]) == 2
        messages.add(capsys.readouterr().err)
    assert [f.name for f in tmp_path.iterdir()] == ["bad.yaml"]
    (message,) = messages
    assert "Traceback" not in message
    return file, message


@pytest.mark.parametrize("case", [*CASES, *ARM_CASES, *PROTOCOL_CASES], ids=lambda case: case.name)
def test_a_mistake_is_reported_with_its_place_rule_and_hint(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert case.old in GOOD
    text = GOOD.replace(case.old, case.new, 1)
    at = case.at or case.new
    line = text[: text.index(at)].count("\n") + 1 if at else 1
    file, message = _refused(tmp_path, capsys, text)
    where = f"{file}:{line}: " + (f"{case.path}: " if case.path else "")
    found = [m for m in message.splitlines() if m.startswith(where)]
    assert found, f"no {where!r} in:\n{message}"
    # A list of two bad items is two problems at one place.
    assert any(all(words in problem for words in case.says) for problem in found), message


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "is empty"),
        ("# only a comment\n", 1, "is empty"),
        ("- study: small\n", 1, "must be a mapping of keys to values; got a list"),
        ("just words\n", 1, "must be a mapping of keys to values; got 'just words'"),
        ("[" * 20000, 1, "nested too deeply"),
        (b"study: small\nbaseline: \xff\xfe\n", 2, "must be text in UTF-8"),
        ("study: small\nquestion: \x07\n", 2, "is not YAML"),
        ("study: small\nmodel: &a [*a]\n", 2, "model: must be text; got a list"),
        ("study: small\nmodel: !!python/object:os.system x\n", 2, "model: must be text; got x"),
        ("study: small\nmodel: *nowhere\n", 2, "is not YAML"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_file_that_is_no_study_is_refused_with_one_clear_line(
    text: str | bytes, line: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, message = _refused(tmp_path, capsys, text)
    assert any(m.startswith(f"{file}:{line}: ") and says in m for m in message.splitlines()), message


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = GOOD.replace("epochs: 10", "epochs: 0").replace("tau:", "tua:").replace("[0, 1]", "[0, 100]")
    file, message = _refused(tmp_path, capsys, text)
    places = [line.removeprefix(f"{file}:").split(":")[0] for line in message.splitlines()[:-1]]
    assert places == ["10", "15", "21"]
    assert message.splitlines()[-1] == "3 problems in the study; nothing was run"


def test_a_key_that_stands_twice_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, message = _refused(tmp_path, capsys, GOOD + "search: {trials: 3}\n")
    assert message.count("the key stands twice") == 1
    assert message.endswith("1 problem in the study; nothing was run\n")


def test_an_unreadable_value_hides_no_other_problem_and_causes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, message = _refused(tmp_path, capsys, GOOD.replace("source: digits", "source: [digits]"))
    assert message.count("\n") == 2
    assert "data.source: must be text; got a list" in message


def test_a_missing_file_is_refused_and_the_nearest_name_is_offered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tau.yaml").write_text(GOOD)
    assert main(["validate", str(tmp_path / "tua.yaml")]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path / 'tua.yaml'}: no such file. Did you mean {tmp_path / 'tau.yaml'}?\n"
    )


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_the_good_study_that_the_cases_spoil_is_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    assert main(["validate", str(file)]) == 0
    assert "valid; study small, 2 arms: cross_entropy, logitnorm" in capsys.readouterr().out
