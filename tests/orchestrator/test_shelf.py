"""``orchestrate data`` as a user sees it; no network is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of five small images, train and test."""
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            place = tmp_path / "pets" / part / label
            place.mkdir(parents=True)
            for i in range(5):
                pixels = np.full((8, 8, 3), 20 * i, dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{i}.png")
    return tmp_path / "pets"


def test_list_shows_every_source_and_what_of_it_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "list", "--data", str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["digits", "bundled", "1,198", "599", "-"] in lines
    assert ["cifar10", "not", "there", "-", "-", "-"] in lines


def test_list_of_one_that_is_missing_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "list", "lsun_c", "--data", str(tmp_path)]) == 0
    assert f"put into {tmp_path / 'lsun_c'} the images out of LSUN.tar.gz" in capsys.readouterr().out


def test_a_folder_of_images_is_listed_and_checked_by_its_path(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "list", str(folder)]) == 0
    assert "folder  10     10" in capsys.readouterr().out
    assert main(["data", "check", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}: sound\n"


def test_a_broken_image_is_found_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = folder / "train" / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:40])
    assert main(["data", "check", str(folder)]) == 1
    assert "3.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fetch"], "name what to fetch"),
        (["list", "cifar11"], "Did you mean 'cifar10'?"),
        (["fetch", "lsun_c"], "No checksum of it is published"),
        (["fetch", "digits"], "it comes with scikit-learn"),
        (["grab"], "there is no command 'grab'"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_hint(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *words, "--data", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


def test_a_study_names_the_data_that_are_missing_and_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "missing.yaml"
    study.write_text(
        "study: missing\ndata: {source: cifar10, far_ood: [svhn]}\nmodel: small_cnn_32x32\n"
        "arms: {cross_entropy: {lr: 0.1}}\nreport: {primary: [test/accuracy]}\n"
    )
    words = ["study", str(study), "--out", str(tmp_path / "runs"), "--data", str(tmp_path / "data")]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "cifar10" in message
    assert "orchestrate data fetch cifar10" in message
    assert "Nothing was run" in message


def test_a_study_whose_arms_cannot_be_built_says_so_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "wrong.yaml"
    study.write_text(
        "study: wrong\ndata: {source: digits}\nmodel: {name: vit_tiny, params: {patch: 3}}\n"
        "arms: {cross_entropy: {lr: 0.1}, mine: {loss: 'nobody.wrote:This', lr: 0.1}}\n"
        "report: {primary: [test/accuracy]}\n"
    )
    assert main(["study", str(study), "--out", str(tmp_path / "runs")]) == 2
    message = capsys.readouterr().err
    assert "arms.cross_entropy: vit_tiny: patch must divide the image's 8x8; got 3" in message
    assert "arms.mine: loss 'nobody.wrote:This' cannot be imported" in message
    assert "Nothing was run" in message
