"""A study's story with audits: an arm that was pruned, and one whose noise metric is saturated."""

from __future__ import annotations

import dataclasses

from orchestrator.study.spec import AuditSpec, ConfirmSpec, ProxySpec, StudySpec

from .stories import Story, confirm_metrics, with_arms

AUDITED = dataclasses.replace(
    with_arms("cross_entropy", "logitnorm"),
    audit=AuditSpec(pruned=5, proxy=ProxySpec(10)),
    confirm=ConfirmSpec((100, 101)),
)
"""Ten epochs, reported at 5 and 10, on the search seeds 0 and 1."""

SEARCHED = {
    # Of logitnorm, by number: for each seed the noise FPR95 at epochs 5 and 10 (one: it was stopped at 5).
    0: ((0.60, 0.30), (0.60, 0.32)),
    1: ((0.50, 0.20), (0.50, 0.22)),
    2: ((0.90,),),
    3: ((0.70, 0.40), (0.80,)),
    4: ((0.75, 0.35),),
    5: ((0.80, 0.60),),
    6: (),
}
REASONS = {
    2: "stopped by the median pruner at epoch 5 of seed 0",
    3: "stopped by the median pruner at epoch 5 of seed 1",
    4: "stopped by the median pruner after 1 of 2 seeds",
    5: "cannot win any more after 1 of 2 seeds",
    6: "seed 0: the loss is NaN",
}
STATES = {0: "complete", 1: "complete", 6: "failed"}
AUDITS = {
    # By number: for each seed the noise FPR95 at epochs 5 and 10; then the real FPR95, near and far.
    0: ((0.60, 0.30), (0.60, 0.32), 0.40, 0.155),
    1: ((0.50, 0.20), (0.50, 0.22), 0.30, 0.105),
    2: ((0.90, 0.10), (0.85, 0.20), 0.35, 0.075),
    3: ((0.70, 0.40), (0.80, 0.50), 0.50, 0.225),
    4: ((0.75, 0.35), (0.70, 0.45), 0.55, 0.200),
    5: ((0.80, 0.60), (0.80, 0.60), 0.70, 0.300),
}
"""Means of noise .31, .21, .15, .45, .40 and .60: far orders as they do, near but for two pairs."""


def told(story: Story, key: str, rates: tuple[float, ...], accuracy: float = 0.97) -> dict[str, float]:
    """The reports of a trial at epochs 5 and 10; the last of them."""
    metrics: dict[str, float] = {}
    for epoch, fpr95 in zip((5, 10), rates, strict=False):
        metrics = {"noise/fpr95": fpr95, "noise/auroc": 0.95, "validation/accuracy": accuracy}
        story.add("reported", key=key, epoch=epoch, metrics=metrics)
    return metrics


def audited(
    story: Story,
    arm: str,
    number: int,
    seed: int,
    rates: tuple[float, ...],
    near: float,
    far: float,
    accuracy: float = 0.97,
) -> None:
    """An audit trial from start to end."""
    key = story.started(arm, "audit", number, seed)
    metrics = {**confirm_metrics(story.spec, near, far), **told(story, key, rates, accuracy)}
    story.finished(key, "complete", metrics, 2.0)


def searched_story(spec: StudySpec = AUDITED) -> Story:
    """Both arms searched and confirmed, nothing audited yet."""
    story = Story(spec).opened()
    for number in range(6):
        params = {"lr": 0.05 * (number + 1)}
        story.configured("cross_entropy", number, params)
        for seed in spec.search.seeds:
            key = story.started("cross_entropy", "search", number, seed)
            story.finished(key, "complete", told(story, key, (0.1, 0.0)), 1.0)
        settled = {"arm": "cross_entropy", "number": number, "state": "complete"}
        story.add("settled", **settled, value=0.000025, reason="")
    story.selected("cross_entropy", 0, {"lr": 0.05}, 0.000025)
    for number, seeds in SEARCHED.items():
        story.configured("logitnorm", number, {"tau": 0.1 * (number + 1), "lr": 0.1})
        for seed, rates in enumerate(seeds):
            key = story.started("logitnorm", "search", number, seed)
            state = "complete" if len(rates) == 2 else "pruned"
            story.finished(key, state, told(story, key, rates), 0.1 * 5 * len(rates))
        state = STATES.get(number, "pruned")
        settled = {"arm": "logitnorm", "number": number, "state": state}
        story.add("settled", **settled, value=0.5, reason=REASONS.get(number, ""))
    # The tie-break is .05 * .0005.
    story.selected("logitnorm", 1, {"tau": 0.2, "lr": 0.1}, 0.21 + 0.000025)
    noise = {"cross_entropy": 0.0, "logitnorm": 0.2}
    for arm, near in (("cross_entropy", 0.45), ("logitnorm", 0.30)):
        for seed in spec.confirm.seeds:
            rate = {"noise/fpr95": noise[arm] + 0.02 * (seed - 100)}
            story.confirmed(
                arm, 1 if arm == "logitnorm" else 0, seed, {**confirm_metrics(spec, near, near / 2), **rate}
            )
    return story


def audited_story(spec: StudySpec = AUDITED) -> Story:
    """The whole story."""
    story = searched_story(spec)
    for number, (*seeds, near, far) in AUDITS.items():
        for seed, rates in enumerate(seeds):
            # The mean over the seeds is what is given.
            audited(story, "logitnorm", number, seed, rates, near + 0.01 - 0.02 * seed, far)
    for number in range(6):
        for seed in spec.search.seeds:
            audited(story, "cross_entropy", number, seed, (0.1, 0.0), 0.40 + 0.01 * number, 0.2)
    story.add("closed", reason="done")
    return story
