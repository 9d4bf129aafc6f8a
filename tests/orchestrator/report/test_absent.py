from __future__ import annotations

from orchestrator.report.absent import left_out, not_drawn

from .stories import SPEC, Story, whole_story


def test_nothing_missing_adds_nothing() -> None:
    assert left_out(whole_story().record(), []) == ""


def test_a_trial_is_named_by_arm_seed_and_folder_with_the_command() -> None:
    record = whole_story().record()
    trial = record.arms["hem"].confirms["standard"][102]
    assert left_out(record, [("hem", trial)]) == (
        " Left out, as their saved outputs are missing or damaged: hem seed 102 (trials/hem-confirm-1-102). "
        "The study's command makes them again: orchestrate study 'studies/my digits.yaml'"
    )


def test_many_are_counted() -> None:
    record = whole_story().record()
    trials = [("hem", trial) for trial in record.trials.values() if trial.stage == "confirm"]
    said = not_drawn("Scores", record, trials)
    assert said.startswith(
        "Scores: not drawn, as the saved outputs of all trials are missing or damaged: hem"
    )
    assert said.count("(trials/") == 6
    assert "and 9 more. The" in said


def test_a_study_that_was_never_opened_still_has_a_command() -> None:
    trial = whole_story().record().arms["hem"].confirms["standard"][102]
    said = left_out(Story(SPEC).record(), [("hem", trial)])
    assert said.endswith("The study's command makes them again: orchestrate study STUDY")
