from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from orchestrator.report.budget import budget_table
from orchestrator.report.canvas import Drawing, style
from orchestrator.report.comparison import arm_record
from orchestrator.report.training_figures import norm_figure, pruning_figure, still_training

from .stories import SPEC, Story, confirm_metrics, whole_story


def texts(drawing: Drawing) -> list[str]:
    return [text for text in ElementTree.fromstring(drawing.svg).itertext() if text.strip()]


def confirmed_with_norms(story: Story, arm: str, seed: int, norm: float) -> None:
    key = story.started(arm, "confirm", 0, seed)
    for epoch in (5, 10):
        metrics = {"validation/logit_norm": norm * epoch, "noise/logit_norm": norm}
        story.add("reported", key=key, epoch=epoch, metrics=metrics)
    story.finished(key, "complete", confirm_metrics(SPEC, 0.3, 0.1))


def test_norms_of_images_and_of_noise_have_a_panel_each_with_plain_numbers() -> None:
    story = Story().opened()
    for arm in SPEC.arms:
        story.configured(arm, 0, {"lr": 0.1})
    for seed in (100, 101):
        confirmed_with_norms(story, "hem", seed, 3.0 + seed % 2)
    with style():
        drawing = norm_figure(SPEC, story.record())
    assert drawing is not None
    shown = texts(drawing)
    assert {"validation images (ID)", "Gaussian noise", "hem"} <= set(shown)
    assert "logitnorm" not in shown
    # Logarithmic, from 3 to 40: mathematics is not set, as a dollar sign in a name is a dollar sign.
    assert not any("$" in text for text in shown)
    assert shown.count("10") == 2 + 2


def test_trials_without_norms_have_no_such_figure() -> None:
    with style():
        assert norm_figure(SPEC, whole_story().record()) is None


def test_trials_are_counted_at_each_epoch_and_what_was_never_started_is_saved() -> None:
    record = whole_story().record()
    # Eight configurations of two seeds. Number 5: both pruned after epoch 5; 6: pruned before its second
    # seed; 7: its second seed failed before any report.
    curve = still_training(arm_record(record, "hem"), 2, 10)
    assert curve == [16, *[14] * 5, *[12] * 5]


def test_what_the_figure_saves_is_what_the_budget_says() -> None:
    story = whole_story()
    # Without the failure, of which the budget says nothing.
    kept = [e for e in story.events if "-7-1" not in e.get("key", "")]
    story.events = [e for e in kept if not (e["event"] == "settled" and e["number"] == 7)]
    for arm in SPEC.arms:
        story.searched(arm, 7, 1, 0.3)
        story.add("settled", arm=arm, number=7, state="complete", value=0.3, reason="")
    record = story.record()
    table = budget_table(SPEC, record)
    place = next(i for i, c in enumerate(table.columns) if (c.group, c.label) == ("saved", "epochs"))
    for row in table.rows:
        curve = still_training(arm_record(record, row[0].text), 2, 10)
        assert sum(curve[0] - n for n in curve[1:]) == int(row[place].text)
    with style():
        drawing = pruning_figure(SPEC, record)
    assert drawing is not None
    # 10 epochs of each of two trials cut at 5, and 10 of a seed that was not given: 20 of 160.
    assert texts(drawing).count("hem: 12 % of epochs saved") == 1


def test_nothing_pruned_is_no_figure(tmp_path: Path) -> None:
    story = Story().opened()
    story.configured("hem", 0, {"lr": 0.1, "mu.scale": 1000.0})
    for seed in SPEC.search.seeds:
        story.searched("hem", 0, seed, 0.3)
    story.add("settled", arm="hem", number=0, state="complete", value=0.3, reason="")
    with style():
        assert pruning_figure(SPEC, story.record()) is None
        # A configuration that still runs has not been cut.
        story.configured("hem", 1, {"lr": 0.2, "mu.scale": 1000.0})
        story.started("hem", "search", 1, 0)
        assert pruning_figure(SPEC, story.record()) is None
