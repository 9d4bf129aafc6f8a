"""Secrets leave no text, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.campaign.record import StudyRecord
from orchestrator.errors import Unavailable
from orchestrator.redaction import redacted
from orchestrator.report.provenance import provenance_table
from tests.orchestrator.simulation import study


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("see http://ann:s3cretpw@host:5000/api", "see http://***@host:5000/api"),
        ("postgresql+psycopg2://ann:p@ss:w0rd@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        ("git clone https://ghp_0123456789@host/a.git", "git clone https://***@host/a.git"),
        ("two: ray://a:b@h1:1, ray://c:d@h2:2", "two: ray://***@h1:1, ray://***@h2:2"),
        ("GET http://s3/key?X-Amz-Signature=ab12&list=1", "GET http://s3/key?X-Amz-Signature=***&list=1"),
        ("http://s3/k?list=1&x-amz-credential=AKIA%2Fus", "http://s3/k?list=1&x-amz-credential=***"),
        ("https://blob/k?sv=2024&sig=abc%3D'", "https://blob/k?sv=2024&sig=***'"),
        ("{'Authorization': 'Basic YWJjOmRlZg=='}", "{'Authorization': 'Basic ***'}"),
        ("authorization: bearer abc.def", "authorization: bearer ***"),
    ],
)
def test_what_opens_a_door_in_a_url_or_a_header_is_hidden(text: str, left: str) -> None:
    assert redacted(text, {}) == left


@pytest.mark.parametrize(
    "text",
    [
        "https://host:8080/path@v1?key=lr&seed=3",
        "sqlite:////home/ann@work/mlflow.db",
        "mail ann@host or see http://host/",
        "test/accuracy 0.981 (logitnorm, seed 100): tau=0.04",
        "a basic example of the bearer of news",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    environment = {"HOME": "/home/ann", "KEYBOARD": "accuracy", "STUDY": "logitnorm", "API_KEY": "seed"}
    assert redacted(text, environment) == text


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "MY_API_KEYS", "db_password", "SERVICE_CREDENTIALS"],
)
def test_the_value_of_a_variable_with_a_secret_name_is_hidden_wherever_it_stands(name: str) -> None:
    assert redacted("boom: hunter2+x! twice hunter2+x!", {name: "hunter2+x!"}) == "boom: *** twice ***"


def test_a_secret_is_also_known_as_it_stands_in_a_url() -> None:
    assert redacted("GET /login?as=hunter%2F2%2Bx", {"A_TOKEN": "hunter/2+x"}) == "GET /login?as=***"


def test_a_password_in_the_url_of_any_variable_is_known_outside_the_url_too() -> None:
    environment = {"MLFLOW_TRACKING_URI": "http://ann:s3cretpw@host:5000"}
    assert redacted("nonnumeric port: 's3cretpw@host'", environment) == "nonnumeric port: '***@host'"


def test_a_secret_that_holds_another_is_hidden_whole() -> None:
    environment = {"A_TOKEN": "abcdef", "B_TOKEN": "abcdef-and-more"}
    assert redacted("it was abcdef-and-more", environment) == "it was ***"


def test_five_characters_are_no_secret_and_six_are() -> None:
    assert redacted("12345 123456", {"A_KEY": "12345"}) == "12345 123456"
    assert redacted("12345 123456", {"A_KEY": "123456"}) == "12345 ***"


def test_every_line_of_a_key_in_many_lines_is_hidden() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0B\n-----END KEY-----\n"
    assert redacted("cannot parse kqhkiG9w0B here", {"SSH_KEY": key}) == "cannot parse *** here"


def test_where_a_secret_lies_is_none(tmp_path: Path) -> None:
    environment = {"RAY_AUTH_TOKEN_PATH": "/nowhere/token", "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path)}
    text = f"no /nowhere/token, but {tmp_path}/study"
    assert redacted(text, environment) == text


def test_the_environment_is_this_process_s_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "xyzzy-plugh")
    assert redacted("said xyzzy-plugh") == "said ***"


@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.parametrize("error", [Unavailable, ValueError])
def test_an_error_reaches_the_terminal_without_secrets(
    error: type[Exception],
    debug: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SOME_SECRET", "xyzzy-plugh")

    def fails(arguments: object) -> int:
        raise error("no store at http://ann:s3cretpw@host for xyzzy-plugh")

    monkeypatch.setitem(cli.COMMANDS, "doctor", fails)
    assert cli.main(["doctor", *debug]) == getattr(error, "exit_code", 1)
    said = "".join(capsys.readouterr())
    assert "no store at http://***@host for ***" in said
    assert "s3cretpw" not in said
    assert "xyzzy-plugh" not in said


def test_a_report_names_the_command_of_an_older_study_without_secrets() -> None:
    session = {"command": ["orchestrate", "study", "--address", "ray://ann:s3cretpw@head:1"]}
    table = provenance_table(study(), StudyRecord(sessions=[session]))
    assert table.rows[0][1].text == "orchestrate study --address ray://***@head:1"
