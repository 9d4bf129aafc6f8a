"""Words and paths: what a study may name as its source and as its OOD sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads.data.names import is_path, ood_problem, ood_problems, path_of, set_name, source_problem


@pytest.mark.parametrize("name", ["./a", "a/b", "/a", "~/a", ".", "..", "~"])
def test_a_path_is_told_by_a_slash_a_dot_or_a_tilde(name: str) -> None:
    assert is_path(name)


@pytest.mark.parametrize("name", ["cifar10", "held_out", "lsun_c", "photographs"])
def test_a_word_is_no_path(name: str) -> None:
    assert not is_path(name)


@pytest.mark.parametrize(
    ("name", "folder", "side"),
    [
        ("/data/photos", "/data/photos", None),
        ("/data/photos@32", "/data/photos", 32),
        ("/data/photos/@64", "/data/photos", 64),
        ("/data/me@home", "/data/me@home", None),
        ("/data/x@032", "/data/x@032", None),
        ("/data/../other", "/other", None),
    ],
)
def test_a_path_may_ask_for_a_side_in_pixels(name: str, folder: str, side: int | None) -> None:
    assert path_of(name) == (Path(folder), side)


def test_a_relative_path_starts_here_and_a_tilde_at_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert path_of("./photos")[0] == tmp_path / "photos"
    assert path_of("~/photos")[0] == Path("/home/someone/photos")
    assert set_name(".") == tmp_path.name


@pytest.mark.parametrize(
    ("name", "expected"),
    [("/data/My photos (2)", "My_photos_2"), ("/data/x@32", "x"), ("svhn", "svhn"), ("/", "images")],
)
def test_a_path_is_called_by_its_folder_made_safe(name: str, expected: str) -> None:
    assert set_name(name) == expected


@pytest.mark.parametrize("name", ["cifar10", "digits", "stl10", "./my/photos"])
def test_a_set_with_a_training_part_or_a_folder_can_be_a_source(name: str) -> None:
    assert source_problem(name) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifra10", "Did you mean 'cifar10'?"),
        ("places365", "has no training part: it can only be an OOD set"),
        ("lsun_c", "can only be an OOD set"),
    ],
)
def test_other_sources_are_refused_with_a_reason(name: str, message: str) -> None:
    assert message in str(source_problem(name))


@pytest.mark.parametrize("name", ["svhn", "held_out", "gaussian", "photo_patches", "digits", "./photos"])
def test_any_source_any_folder_and_any_synthetic_set_can_be_an_ood_set(name: str) -> None:
    assert ood_problem("cifar10", name) is None


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("cifar10", "cifar10", "must not be the source itself; got 'cifar10'"),
        ("/data/x", "/data/../data/x@32", "must not be the source itself"),
        ("cifar10", "svnh", "Did you mean 'svhn'?"),
        ("cifar10", "./uniform", "must not be called like a set of our own"),
        ("cifar10", "/data/test", "must not be called like a set of our own"),
        ("cifar10", "/data/train_labels", "must not be called like a set of our own"),
        ("cifar10", "/data/id_test", "must not be called like a set of our own"),
        ("cifar10", "/data/noise_0.25", "must not be called like a set of our own"),
    ],
)
def test_other_ood_sets_are_refused_with_a_reason(source: str, name: str, message: str) -> None:
    assert message in str(ood_problem(source, name))


def test_two_folders_of_one_name_are_refused_and_every_problem_is_told() -> None:
    problems = ood_problems("cifar10", ["/a/photos", "/b/photos", "cifar10", "svnh"])
    assert len(problems) == 3
    assert "['/a/photos', '/b/photos']" in problems[2]
