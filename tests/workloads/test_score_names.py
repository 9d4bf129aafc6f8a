"""The names of scores: what may be written, and what stands in metrics and paths."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import pytest

from workloads.evaluation.catalogue import SCORES
from workloads.evaluation.score_names import ScoreName, parse_score


@pytest.mark.parametrize("name", SCORES)
def test_a_bare_name_has_every_default_and_is_its_own_label(name: str) -> None:
    found = parse_score(name)
    assert found == ScoreName(name, {})
    assert found.label == name
    assert found.resolved() == {key: each.default for key, each in SCORES[name].parameters.items()}


@pytest.mark.parametrize(
    ("text", "params", "label"),
    [
        ("energy:T=.1", {"T": 0.1}, "energy-T0.1"),
        ("energy:T=1e-1", {"T": 0.1}, "energy-T0.1"),
        ("energy:T=1", {"T": 1.0}, "energy"),
        ("energy:T=tuned", {"T": "tuned"}, "energy-T_tuned"),
        ("energy: T = 2.", {"T": 2.0}, "energy-T2"),
        ("energy:T=1e20", {"T": 1e20}, "energy-T1e20"),
        ("energy:T=1e-7", {"T": 1e-7}, "energy-T1e-07"),
        ("energy:T=0.1234567", {"T": 0.1234567}, "energy-T0.1234567"),
        ("odin:epsilon=0.0014,T=100", {"epsilon": 0.0014, "T": 100.0}, "odin-T100-epsilon0.0014"),
        ("odin:epsilon=0.0014,T=1000", {"epsilon": 0.0014, "T": 1000.0}, "odin-epsilon0.0014"),
        ("odin:epsilon=-0", {"epsilon": 0.0}, "odin-epsilon0"),
        ("odin:epsilon=tuned", {"epsilon": "tuned"}, "odin"),
        ("knn:k=1e3,normalise=false", {"k": 1000, "normalise": False}, "knn-k1000-normalise_false"),
    ],
)
def test_parameters_are_read_and_those_off_their_default_are_in_the_label(
    text: str, params: dict[str, float | int | str], label: str
) -> None:
    found = parse_score(text)
    assert dict(found.params) == params
    assert {key: type(value) for key, value in found.params.items()} == {
        k: type(v) for k, v in params.items()
    }
    assert found.label == label
    assert found.resolved() == {**parse_score(found.name).resolved(), **params}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mps", "unknown score; got 'mps'. Did you mean 'msp'?"),
        ("", "unknown score; got ''. Known: msp, mls"),
        ("Energy", "unknown score; got 'Energy'. Did you mean 'energy'?"),
        ("energy:", "energy: parameters are written parameter=value; got ''"),
        ("energy:T", "energy: parameters are written parameter=value; got 'T'"),
        ("energy:T=", "energy: parameters are written parameter=value; got 'T='"),
        ("energy:T=1,", "energy: parameters are written parameter=value; got ''"),
        ("energy:t=1", "energy: unknown parameter; got 't'. Known: T"),
        ("odin:epsilom=1", "odin: unknown parameter; got 'epsilom'. Did you mean 'epsilon'?"),
        ("msp:T=1", "msp: unknown parameter; got 'T'. msp has none"),
        ("energy:T=1,T=2", "energy: a parameter is given once; got T twice"),
        ("energy:T=0", "energy: T must be > 0, or the word tuned; got 0"),
        ("gradnorm:T=-1", "gradnorm: T must be > 0; got -1"),
        ("odin:epsilon=-.1", "odin: epsilon must be >= 0, or the word tuned; got -.1"),
        ("react:percentile=101", "react: percentile must be <= 100, or the word tuned; got 101"),
        ("energy:T=nan", "energy: T must be a number, or the word tuned; got 'nan'"),
        ("energy:T=inf", "energy: T must be a number, or the word tuned; got 'inf'"),
        ("energy:T=1e999", "energy: T must be a number, or the word tuned; got '1e999'"),
        ("energy:T=1_0", "energy: T must be a number, or the word tuned; got '1_0'"),
        ("energy:T=0x1", "energy: T must be a number, or the word tuned; got '0x1'"),
        ("energy:T=٣", "energy: T must be a number, or the word tuned; got '٣'"),
        ("energy:T=Tuned", "energy: T must be a number, or the word tuned; got 'Tuned'"),
        ("gradnorm:T=tuned", "gradnorm: T cannot be tuned; give a value"),
        ("knn:k=1.5", "knn: k must be a whole number, or the word tuned; got '1.5'"),
        ("knn:k=0", "knn: k must be >= 1, or the word tuned; got 0"),
        ("knn:normalise=1", "knn: normalise must be true or false; got '1'"),
        ("energy:T=1=2", "energy: T must be a number, or the word tuned; got '1=2'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        parse_score(text)


def test_different_values_have_different_labels_in_a_portable_alphabet() -> None:
    values = [
        0.1,
        0.1 + 1e-17,
        0.1 + 2e-17,
        1 / 3,
        0.333333,
        1e6,
        1e6 + 1,
        1e-300,
        123456.7,
        1e22,
        5e-324,
        2.0,
    ]
    values += [float(f"{mantissa}e{power}") for mantissa in (1, 1.5, 9.999999) for power in range(-9, 9)]
    by_value = {value: parse_score(f"energy:T={value!r}").label for value in values}
    assert len(set(by_value.values())) == len(set(values))
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", label) for label in by_value.values())


def test_no_two_scores_share_a_label() -> None:
    values = {"float": ["0.5", "tuned"], "int": ["3", "tuned"], "bool": ["false"]}
    labels = []
    for name, entry in SCORES.items():
        options: list[list[str]] = [
            [
                "",
                *(
                    f"{key}={v}"
                    for v in values[each.kind]
                    if v != "tuned" or (each.tunable and each.default != v)
                ),
            ]
            for key, each in entry.parameters.items()
        ]
        for chosen in itertools.product(*options):
            given = ",".join(filter(None, chosen))
            labels.append(parse_score(f"{name}:{given}" if given else name).label)
    assert len(labels) > len(SCORES)
    assert len(set(labels)) == len(labels)


def test_names_of_scores_are_words_and_those_of_parameters_are_letters() -> None:
    # A label is read back from these: a digit in a parameter's name would run into its value.
    assert all(re.fullmatch(r"[a-z][a-z0-9]*", name) for name in SCORES)
    assert all(re.fullmatch(r"[A-Za-z]+", key) for entry in SCORES.values() for key in entry.parameters)


def test_candidates_for_tuning_are_valid_values_of_their_parameter() -> None:
    tunable = [
        (name, key, value)
        for name, entry in SCORES.items()
        for key, parameter in entry.parameters.items()
        for value in parameter.tunable
    ]
    assert {(name, key) for name, key, _ in tunable} >= {("energy", "T"), ("odin", "epsilon"), ("knn", "k")}
    for name, key, value in tunable:
        assert parse_score(f"{name}:{key}={value!r}").params[key] == value


def test_a_default_that_is_tuned_has_candidates() -> None:
    for entry in SCORES.values():
        for parameter in entry.parameters.values():
            assert parameter.default != "tuned" or parameter.tunable


def test_reading_a_name_loads_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, workloads.evaluation.score_names\n"
        "print([name for name in ('numpy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
