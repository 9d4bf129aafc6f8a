from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.report.streams import SavedStreams, saved_streams
from workloads.sealed import sealed

from .protocol_stories import STUDY, matrix_of, protocol_story, stream_path, write_streams

REPLAY = "continual/replay"


def test_the_mean_matrix_is_over_the_seeds_and_empty_where_nothing_was_measured(tmp_path: Path) -> None:
    story = protocol_story()
    write_streams(story, tmp_path)
    streams = saved_streams(STUDY, story.record(), tmp_path, "hem", REPLAY)
    assert isinstance(streams, SavedStreams)
    assert (streams.seeds, streams.missing) == ((100, 101, 102), ())
    for i in range(3):
        for j in range(3):
            found = [matrix_of(STUDY, "hem", REPLAY, seed)[i][j] for seed in (100, 101, 102)]
            if j > i:
                assert np.isnan(streams.mean[i, j])
            else:
                assert streams.mean[i, j] == pytest.approx(sum(v or 0.0 for v in found) / 3, rel=1e-12)


def test_the_curve_is_the_mean_over_the_tasks_so_far_at_each_seed(tmp_path: Path) -> None:
    story = protocol_story()
    write_streams(story, tmp_path)
    # Above the diagonal .3 was measured, which does not count.
    streams = saved_streams(STUDY, story.record(), tmp_path, "cross_entropy", "turned/naive")
    assert isinstance(streams, SavedStreams)
    expected = [
        [0.98 + luck, (0.99 + luck + 0.96 + luck) / 2, (0.6 + 0.74 + 0.94) / 3 + luck]
        for luck in (-0.01, 0.0, 0.01)
    ]
    np.testing.assert_allclose(streams.seen, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "damaged",
    [
        "{",
        "[]",
        json.dumps(sealed({"accuracy": [[0.5] * 3] * 3})).replace("0.5", "0.7", 1),
        json.dumps(sealed({"accuracy": []})),
        json.dumps(sealed({"accuracy": [[0.5, 0.5], [0.5]]})),
        json.dumps(sealed({"accuracy": [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]})),
        json.dumps(sealed({"accuracy": [[50.0] * 3] * 3})),
        json.dumps(sealed({"accuracy": [[-0.1] * 3] * 3})),
        json.dumps(sealed({"accuracy": [["high"]]})),
        json.dumps(sealed({"accuracy": 0.5})),
        json.dumps(sealed({"R": [[0.5]]})),
        # Of another number of tasks.
        json.dumps(sealed({"accuracy": [[0.5, None], [0.5, 0.5]]})),
    ],
)
def test_missing_and_damaged_files_are_named_and_the_others_used(tmp_path: Path, damaged: str) -> None:
    story = protocol_story()
    write_streams(story, tmp_path)
    stream_path(tmp_path, "hem", 101, REPLAY).unlink()
    stream_path(tmp_path, "hem", 102, REPLAY).write_text(damaged)
    streams = saved_streams(STUDY, story.record(), tmp_path, "hem", REPLAY)
    assert isinstance(streams, SavedStreams)
    assert (streams.seeds, streams.missing) == ((100,), (101, 102))
    assert streams.R.shape == (1, 3, 3)


def test_without_any_file_the_seeds_that_should_have_one_are_given(tmp_path: Path) -> None:
    record = protocol_story().record()
    assert saved_streams(STUDY, record, tmp_path, "hem", REPLAY) == (100, 101, 102)
