"""The reference against worked examples, from an implementation that is not this one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from tests.conftest import SHARED
from tests.workloads.losses import reference as ref
from tests.workloads.losses.reference_arrays import Array, Labels
from tests.workloads.losses.worked_values import INPUTS, VALUES


@dataclass(frozen=True)
class LogitExample:
    Z: Array
    y: Labels
    counts: Labels


@dataclass(frozen=True)
class FeatureExample:
    X: Array
    W: Array
    b: Array
    y: Labels
    counts: Labels

    @property
    def c(self) -> Array:
        return ref.cos_of(self.X, self.W)


def _logits(name: str) -> LogitExample:
    Z = np.array(INPUTS[f"Z{name}"], dtype=np.float64)
    return LogitExample(Z, np.array(INPUTS[f"y{name}"]), np.array(INPUTS[f"CNT{Z.shape[1]}"]))


def _features() -> FeatureExample:
    X, W, b = (np.array(INPUTS[k], dtype=np.float64) for k in ("XE", "W3", "b3"))
    return FeatureExample(X, W, b, np.array(INPUTS["yE"]), np.array(INPUTS["CNT3"]))


# The file's scale for C = 3 is below the floor of 1 that `adacos_scale` has.
ADACOS_SCALE_OF_THE_FILE = math.sqrt(2) * math.log(2)

# The file leaves w_g and b_g open. Both of its values follow from one output u of an untrained
# batch norm in eval mode (mean 0, variance 1, epsilon 1e-5) of the input 0.04.
GODIN_U = 0.04 / math.sqrt(1 + 1e-5)

OF_LOGITS: dict[str, Callable[[LogitExample], float]] = {
    "ce": lambda e: ref.cross_entropy(e.Z, e.y),
    "ce_weighted[w=.5,1,2,(4)]": lambda e: ref.cross_entropy(
        e.Z, e.y, weights=np.array([0.5, 1, 2, 4])[: e.Z.shape[1]]
    ),
    "label_smoothing[.1]": lambda e: ref.label_smoothing(e.Z, e.y),
    "bce_ova[sum]": lambda e: ref.bce(e.Z, e.y),
    "bce_ova[mean]": lambda e: ref.bce(e.Z, e.y, class_reduction="mean"),
    "mse[logits,mean]": lambda e: ref.mse(e.Z, e.y),
    "mse[logits,sum,half]": lambda e: ref.mse(e.Z, e.y, class_reduction="sum", half=True),
    "mse[probs,sum]": lambda e: ref.mse(e.Z, e.y, on="probs", class_reduction="sum"),
    "mse[logits,mean,k=5,M=2]": lambda e: ref.mse(e.Z, e.y, k=5, M=2),
    "l1[logits,mean]": lambda e: ref.l1(e.Z, e.y),
    "l1[probs,sum]": lambda e: ref.l1(e.Z, e.y, on="probs", class_reduction="sum"),
    "huber[logits,delta=1]": lambda e: ref.huber(e.Z, e.y),
    "huber[logits,delta=.5]": lambda e: ref.huber(e.Z, e.y, delta=0.5),
    "focal[gamma=2]": lambda e: ref.focal(e.Z, e.y),
    "focal[gamma=1]": lambda e: ref.focal(e.Z, e.y, gamma=1),
    "logitnorm[tau=.04]": lambda e: ref.logitnorm(e.Z, e.y, tau=0.04),
    "logitnorm[tau=1]": lambda e: ref.logitnorm(e.Z, e.y, tau=1),
    "logit_penalty[.05]": lambda e: ref.logit_penalty(e.Z, e.y, lam=0.05),
    "meln_source[T=1,m=.1]": lambda e: ref.meln(e.Z, e.y, T=1, m=0.1),
    "meln_source[T=1,m=5]": lambda e: ref.meln(e.Z, e.y, T=1, m=5),
    "meln_multiply[T=25,m=.1]": lambda e: ref.meln(e.Z, e.y, T=25, m=0.1, temperature="multiply"),
    "meln_target[T=.1,m=.1]": lambda e: ref.meln(e.Z, e.y, T=0.1, m=0.1, mode="target"),
    "meln_shifted_norm[T=1,m=.1]": lambda e: ref.meln(e.Z, e.y, T=1, m=0.1, mode="shifted_norm"),
    "multi_margin[1]": lambda e: ref.multi_margin(e.Z, e.y, mu=1),
    "multi_margin[2]": lambda e: ref.multi_margin(e.Z, e.y, mu=2),
    "multi_margin[2,p=2]": lambda e: ref.multi_margin(e.Z, e.y, mu=2, p=2),
    "hem[mu=.2]": lambda e: ref.hem(e.Z, e.y, mu=0.2),
    "hem[mu=.4]": lambda e: ref.hem(e.Z, e.y, mu=0.4),
    "hem[mu=1]": lambda e: ref.hem(e.Z, e.y, mu=1),
    "hem[mu=2]": lambda e: ref.hem(e.Z, e.y, mu=2),
    "hem[mu=.4,batch threshold]": lambda e: ref.hem(e.Z, e.y, mu=0.4, threshold="batch"),
    "hem[mu=2,mean over all samples]": lambda e: ref.hem(e.Z, e.y, mu=2, mean_over="all"),
    "hem_plus[counts]": lambda e: ref.hem_plus(e.Z, e.y, e.counts),
    "logit_adjusted[tau=1]": lambda e: ref.logit_adjustment(e.Z, e.y, e.counts),
}

OF_FEATURES: dict[str, Callable[[FeatureExample], float]] = {
    "modified_softmax": lambda e: ref.modified_softmax(e.X, e.W, e.y),
    "normface[s=16]": lambda e: ref.normface(e.c, e.y, s=16),
    "lsoftmax[m=4,lam=0]": lambda e: ref.l_softmax(e.X, e.W, e.y, m=4, lam=0),
    "lsoftmax[m=2,lam=5]": lambda e: ref.l_softmax(e.X, e.W, e.y, m=2, lam=5),
    "asoftmax[m=4,lam=0]": lambda e: ref.a_softmax(e.X, e.W, e.y, m=4, lam=0),
    "asoftmax[m=4,lam=5]": lambda e: ref.a_softmax(e.X, e.W, e.y, m=4, lam=5),
    "cosface[s=30,m=.35]": lambda e: ref.cosface(e.c, e.y, s=30, m=0.35),
    "arcface[s=30,m=.5,linear]": lambda e: ref.arcface(e.c, e.y, s=30, m=0.5, fallback="linear"),
    "arcface[s=30,m=.5,none]": lambda e: ref.arcface(e.c, e.y, s=30, m=0.5, fallback="none"),
    "arcface[s=30,m=.5,easy]": lambda e: ref.arcface(e.c, e.y, s=30, m=0.5, fallback="easy"),
    "arcgrad[s=10]": lambda e: ref.arcgrad(e.c, e.y, s=10),
    "arcgrad[s=2]": lambda e: ref.arcgrad(e.c, e.y, s=2),
    "adacos_fixed": lambda e: ref.normface(e.c, e.y, s=ADACOS_SCALE_OF_THE_FILE),
    "adacos_dynamic_s": lambda e: ref.adacos_dynamic_scale(e.c, e.y, s_previous=ADACOS_SCALE_OF_THE_FILE),
    "adacos_dynamic_loss": lambda e: ref.normface(
        e.c, e.y, s=ref.adacos_dynamic_scale(e.c, e.y, s_previous=ADACOS_SCALE_OF_THE_FILE)
    ),
    "godin[cosine,sigmoid,eval BN]": lambda e: ref.cross_entropy(
        ref.godin_logits(e.X, e.W, g=np.array([1 / (1 + math.exp(-GODIN_U))])), e.y
    ),
    "godin[cosine,exp,eval BN]": lambda e: ref.cross_entropy(
        ref.godin_logits(e.X, e.W, g=np.array([math.exp(GODIN_U)])), e.y
    ),
    "elogitnorm[/C = author code]": lambda e: ref.elogitnorm(e.X, e.W, e.b, e.y),
    "elogitnorm[/(C-1)]": lambda e: ref.elogitnorm(e.X, e.W, e.b, e.y, divisor="others"),
    "t2fnorm[tau=.1]": lambda e: ref.t2fnorm(e.X, e.W, e.b, e.y, tau=0.1),
    "ldam[s=30,.5,counts 500,100,20]": lambda e: ref.ldam(e.c, e.y, e.counts),
    "ldam_drw[beta=.9999]": lambda e: ref.ldam(e.c, e.y, e.counts, weights=ref.drw_weights(e.counts)),
}


@pytest.mark.parametrize("example", ["A", "B", "C"])
@pytest.mark.parametrize("loss", OF_LOGITS)
def test_a_loss_of_logits_has_its_worked_value(loss: str, example: str) -> None:
    # 4e-15 is the spacing of doubles near 24, LogitNorm's logits at tau = .04: the file's 1.7e-8 for
    # example A is a difference of two such numbers.
    assert OF_LOGITS[loss](_logits(example)) == pytest.approx(VALUES[loss][example], rel=1e-9, abs=4e-15)


@pytest.mark.parametrize("loss", OF_FEATURES)
def test_a_loss_of_features_has_its_worked_value(loss: str) -> None:
    assert OF_FEATURES[loss](_features()) == pytest.approx(VALUES[loss]["E"], rel=1e-9)


def test_every_worked_value_is_checked() -> None:
    assert set(OF_LOGITS) | set(OF_FEATURES) == set(VALUES)
    assert all(set(VALUES[name]) == {"A", "B", "C"} for name in OF_LOGITS)
    assert all(set(VALUES[name]) == {"E"} for name in OF_FEATURES)


@pytest.mark.shared
def test_the_copied_values_are_those_of_the_file() -> None:
    file = json.loads((SHARED / "vectors" / "losses.json").read_text(encoding="utf-8"))
    assert file["losses"] == VALUES
    assert {name: file["inputs"][name] for name in INPUTS} == INPUTS
