"""What changes in a loss while the training goes on, and what does not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tests.workloads.losses import reference as ref
from tests.workloads.losses.cases import Case
from tests.workloads.losses.table import CASES
from workloads.losses.base import LossContext
from workloads.losses.build import build_loss
from workloads.losses.sphereface import END, MultiplicativeMargin

POINTS = (0.0, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0)
SCHEDULED = {"cosface", "arcface", "l_softmax", "a_softmax", "ldam"}
CONTEXT = LossContext(620, 3, (500, 100, 20))


def stands_still(case: Case) -> bool:
    if case.params.get("anneal") == 0 or case.params.get("drw") == 1:
        return True
    return case.loss not in SCHEDULED


@pytest.mark.parametrize("case", [case for case in CASES if stands_still(case)], ids=str)
def test_a_loss_without_a_schedule_takes_no_notice_of_the_progress(case: Case) -> None:
    batch = case.batch()
    loss = case.build(batch.counts)
    values = set()
    for progress in POINTS:
        loss.set_progress(progress)
        values.add(loss(batch.output, batch.labels).item())
    assert len(values) == 1


@pytest.mark.parametrize("case", [case for case in CASES if not stands_still(case)], ids=str)
def test_a_loss_with_a_schedule_that_is_never_told_stands_at_its_end(case: Case) -> None:
    batch = case.batch()
    untold = build_loss(case.loss, case.params, LossContext(sum(batch.counts), 4, batch.counts))
    start, end = case.build(batch.counts, progress=0.0), case.build(batch.counts, progress=1.0)
    value = untold.eval()(batch.output, batch.labels).item()
    assert value == end(batch.output, batch.labels).item()
    assert abs(value - start(batch.output, batch.labels).item()) > 1e-3


@pytest.mark.parametrize("warmup", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("progress", POINTS)
def test_a_margin_grows_linearly_from_zero_over_its_warm_up(progress: float, warmup: float) -> None:
    m = 0.4 * min(1.0, progress / warmup)
    cosface = next(case for case in CASES if case.loss == "cosface")
    batch = cosface.batch()
    given = batch.given()
    for name, expected in (
        ("cosface", ref.cosface(given.c, given.y, s=30, m=m)),
        ("arcface", ref.arcface(given.c, given.y, s=30, m=m)),
    ):
        loss = build_loss(name, {"m": 0.4, "margin_warmup": warmup}, CONTEXT).train()
        loss.set_progress(progress)
        assert loss(batch.output, batch.labels).item() == pytest.approx(expected, rel=1e-9)
        assert loss.stats()["m"] == pytest.approx(m, rel=1e-9)


@pytest.mark.parametrize("name", ["cosface", "arcface"])
def test_a_margin_without_a_warm_up_is_whole_from_the_start(name: str) -> None:
    case = next(case for case in CASES if case.loss == name)
    batch = case.batch()
    at_once = case.build(batch.counts, progress=0.0, changes={"margin_warmup": 0.0})
    whole = case.build(batch.counts, progress=1.0)
    assert at_once(batch.output, batch.labels).item() == whole(batch.output, batch.labels).item()


def annealed(name: str, progress: float, **params: float) -> float:
    loss = build_loss(name, params, CONTEXT)
    assert isinstance(loss, MultiplicativeMargin)
    loss.set_progress(progress)
    return loss.annealing.item()


@pytest.mark.parametrize("name", ["l_softmax", "a_softmax"])
@pytest.mark.parametrize("lambda_min", [0.0, 5.0])
@pytest.mark.parametrize("anneal", [0.2, 0.5, 1.0])
def test_annealing_falls_from_its_start_to_its_end_and_stays_there(
    name: str, lambda_min: float, anneal: float
) -> None:
    params = {"lambda_min": lambda_min, "anneal": anneal, "lambda_start": 300.0}
    values = [annealed(name, progress, **params) for progress in np.linspace(0, 1, 41)]
    assert values[0] == pytest.approx(300.0, rel=1e-12)
    assert all(later < earlier or later == lambda_min for earlier, later in itertools.pairwise(values))
    assert annealed(name, anneal, **params) == lambda_min
    # Just before, it has come down to there: no jump but that from 1e-3 to 0.
    assert annealed(name, anneal * (1 - 1e-9), **params) == pytest.approx(max(lambda_min, END), rel=1e-6)


def test_annealing_is_a_power_of_the_progress() -> None:
    # (1 + gamma / 2)^-1 = 5 / 1000 at half of the training: gamma = 398.
    for progress in (0.1, 0.25, 0.4):
        expected = 1000 / (1 + 398 * progress)
        assert annealed("a_softmax", progress) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["l_softmax", "a_softmax"])
def test_the_annealed_value_is_that_of_its_lambda(name: str) -> None:
    case = next(case for case in CASES if case.loss == name)
    batch = case.batch()
    given = batch.given()
    reference = {"l_softmax": ref.l_softmax, "a_softmax": ref.a_softmax}[name]
    for progress in (0.0, 0.05, 0.3):
        loss = case.build(batch.counts, progress=progress).train()
        lam = annealed(name, progress, **case.params)
        expected = reference(given.X, given.W, given.y, m=2, lam=lam)
        assert loss(batch.output, batch.labels).item() == pytest.approx(expected, rel=1e-9)
        assert loss.stats()["lambda"] == pytest.approx(lam, rel=1e-9)


def test_ldam_weights_classes_from_its_share_of_the_training_on() -> None:
    case = next(case for case in CASES if case.loss == "ldam")
    batch = case.batch()
    given = batch.given()
    plain = ref.ldam(given.c, given.y, given.counts)
    weighted = ref.ldam(given.c, given.y, given.counts, weights=ref.drw_weights(given.counts))
    assert not math.isclose(plain, weighted, rel_tol=1e-3)
    loss = case.build(batch.counts, changes={"drw": 0.6})
    for progress, expected in ((0.0, plain), (0.5999, plain), (0.6, weighted), (1.0, weighted)):
        loss.set_progress(progress)
        assert loss(batch.output, batch.labels).item() == pytest.approx(expected, rel=1e-9)


def test_the_progress_of_a_loss_reaches_it_through_a_triplet_beside_it() -> None:
    case = next(case for case in CASES if case.loss == "cosface" and "triplet" in case.params)
    batch = case.batch()
    start, end = case.build(batch.counts, progress=0.0), case.build(batch.counts)
    c, y = batch.given().c, batch.given().y
    difference = ref.cosface(c, y, s=30, m=0.2) - ref.cosface(c, y, s=30, m=0)
    got = end(batch.output, batch.labels).item() - start(batch.output, batch.labels).item()
    assert got == pytest.approx(difference, rel=1e-9)
