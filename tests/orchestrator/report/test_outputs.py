from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.report.outputs import PooledReliability, PooledScores, pooled_reliability, pooled_scores
from workloads.sealed import sealed

from .stories import SPEC, trial_key, whole_story, write_outputs


def folder_of(study_dir: Path, arm: str, seed: int) -> Path:
    return study_dir / "trials" / trial_key(arm, "confirm", 1, seed) / "outputs"


def test_scores_of_all_seeds_and_sets_are_pooled(tmp_path: Path) -> None:
    record = whole_story().record()
    write_outputs(SPEC, record, tmp_path)
    pooled = pooled_scores(SPEC, record, tmp_path, "hem")
    assert isinstance(pooled, PooledScores)
    # Five seeds; 400 test images, one near set of 300, two far sets of 200.
    assert (len(pooled.id_test), len(pooled.near), len(pooled.far)) == (2000, 1500, 2000)


def test_missing_and_damaged_files_are_named_and_the_others_used(tmp_path: Path) -> None:
    record = whole_story().record()
    write_outputs(SPEC, record, tmp_path)
    (folder_of(tmp_path, "hem", 101) / "scores.npz").unlink()
    (folder_of(tmp_path, "hem", 103) / "scores.npz").write_bytes(b"PK\x03\x04 cut short")
    pooled = pooled_scores(SPEC, record, tmp_path, "hem")
    assert isinstance(pooled, PooledScores)
    assert (pooled.seeds, pooled.missing) == ((100, 102, 104), (101, 103))


def test_reliability_bins_with_a_changed_digit_are_not_believed(tmp_path: Path) -> None:
    record = whole_story().record()
    write_outputs(SPEC, record, tmp_path)
    path = folder_of(tmp_path, "hem", 101) / "reliability.json"
    text = path.read_text()
    assert text.count("1.7") == 1
    path.write_text(text.replace("1.7", "1.3"))
    pooled = pooled_reliability(SPEC, record, tmp_path, "hem")
    assert isinstance(pooled, PooledReliability)
    assert (pooled.seeds, pooled.missing) == ((100, 102, 103, 104), (101,))


def test_without_any_file_the_seeds_that_should_have_one_are_given(tmp_path: Path) -> None:
    record = whole_story().record()
    assert pooled_scores(SPEC, record, tmp_path, "hem") == SPEC.confirm.seeds
    assert pooled_reliability(SPEC, record, tmp_path, "hem") == SPEC.confirm.seeds


def test_reliability_bins_are_weighted_by_their_counts(tmp_path: Path) -> None:
    record = whole_story().record()
    write_outputs(SPEC, record, tmp_path)
    for seed in SPEC.confirm.seeds:
        weight = 3 if seed == 100 else 1
        part = {
            "confidence": [0.0, 0.9 if seed == 100 else 0.7],
            "accuracy": [float("nan"), 1.0 if seed == 100 else 0.5],
            "count": [0, weight],
            "edges": [0.0, 0.5, 1.0],
        }
        path = folder_of(tmp_path, "hem", seed) / "reliability.json"
        path.write_text(json.dumps(sealed({"before": part, "after": part, "temperature": 1.0})))
    pooled = pooled_reliability(SPEC, record, tmp_path, "hem")
    assert isinstance(pooled, PooledReliability)
    # (3 * .9 + 4 * .7) / 7 and (3 * 1 + 4 * .5) / 7; the empty bin is gone.
    assert pooled.before.confidence == pytest.approx(np.array([5.5 / 7]), rel=1e-12)
    assert pooled.after.accuracy == pytest.approx(np.array([5.0 / 7]), rel=1e-12)
    assert pooled.after.count.tolist() == [7.0]
