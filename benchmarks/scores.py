"""Out-of-distribution evaluation from kept outputs: own scores against pytorch-ood's, and M9.

    python -m benchmarks.scores [--images N --classes C --features D --sets K --train N --rounds R
        --threads T]

Both sides get the same float32 features and logits of a random linear head, drawn from a seed, and give
every score's AUROC and FPR95 on every OOD set. pytorch-ood runs twice: its detectors and ``OODMetrics`` on
kept outputs, which is what ours does; and its own ``Benchmark.evaluate`` from batches of a DataLoader, where
the model is the last layer alone. Only scores that both have are compared in time. Its metrics include one
that ours do not, AUTC.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pytorch_ood import detector as detectors
from pytorch_ood.benchmark import Benchmark
from pytorch_ood.metrics import OODMetrics
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch.utils.data import Dataset, TensorDataset

from benchmarks.rounds import Figure, interleave, line
from workloads.evaluation import evidence as evidence_module
from workloads.evaluation.evidence import Detector, Evidence, Head
from workloads.evaluation.ood import rejection_metrics
from workloads.evaluation.scores.features import GradNorm
from workloads.evaluation.scores.logits import MLS, MSP, Energy, Entropy
from workloads.evaluation.scores.neighbours import KNN

SEED = 2024
BATCH = 512
M9_IMAGES, M9_CLASSES = 80_600, 100
SHARED = ("msp", "mls", "energy", "entropy", "knn")

Table = dict[str, dict[str, float]]
"""AUROC and FPR95 (share of ID images rejected with 95 % of OOD images), by score and set."""


@dataclass(frozen=True)
class Material:
    """Features, [images, features] float32, and the head that they go through."""

    train: npt.NDArray[np.float32]
    known: npt.NDArray[np.float32]
    unknown: Mapping[str, npt.NDArray[np.float32]]
    W: npt.NDArray[np.float32]

    def evidence(self, X: npt.NDArray[np.float32]) -> Evidence:
        return Evidence(X @ self.W.T, X)


def draw(images: int, classes: int, features: int, sets: int, train: int) -> Material:
    """ID features lie around one direction a class; the k-th OOD set's are ever farther from all of them."""
    generator = np.random.default_rng(SEED)
    W = generator.normal(size=(classes, features)) / np.sqrt(features)

    def around(pull: float, number: int) -> npt.NDArray[np.float32]:
        centres = pull * np.sqrt(features) * W[generator.integers(0, classes, number)]
        drawn = np.maximum(centres + generator.normal(size=(number, features)), 0.0)
        return np.asarray(drawn, dtype=np.float32)

    unknown = {f"set{k + 1}": around(0.2 * (1 - k / sets), images) for k in range(sets)}
    return Material(around(0.3, train), around(0.3, images), unknown, (2 * W).astype(np.float32))


def ours(material: Material, names: Sequence[str]) -> tuple[Table, dict[str, float]]:
    """The table, and seconds by score; the shared pass over the logits falls to the first that needs it."""
    detectors: dict[str, Detector] = {
        "msp": MSP(),
        "mls": MLS(),
        "energy": Energy(),
        "entropy": Entropy(),
        "gradnorm": GradNorm(),
        "knn": KNN(),
    }
    head, train = Head("linear", material.W), material.evidence(material.train)
    known = material.evidence(material.known)
    unknown = {name: material.evidence(X) for name, X in material.unknown.items()}
    table: Table = {}
    seconds = {}
    for name in names:
        start = time.perf_counter()
        detector = detectors[name]
        detector.fit(train, head)
        of_known = detector(known)
        for member, evidence in unknown.items():
            found = rejection_metrics(of_known, detector(evidence))
            table[f"{name}/{member}"] = {"auroc": found["auroc"], "fpr95": found["fpr95_ood_positive"]}
        seconds[name] = time.perf_counter() - start
    return table, seconds


class Theirs(Benchmark):  # type: ignore[misc]
    """The material as a benchmark of pytorch-ood: its loop then does the rest."""

    def __init__(self, material: Material) -> None:
        self.ood_names = list(material.unknown)
        self._sets = [labelled(material.known, X) for X in material.unknown.values()]

    def train_set(self) -> Dataset[Any]:
        return self._sets[0]

    def test_sets(self, known: bool = True, unknown: bool = True) -> list[Dataset[Any]]:
        return list(self._sets)


def labelled(known: npt.NDArray[np.float32], unknown: npt.NDArray[np.float32]) -> Dataset[Any]:
    labels = torch.cat([torch.zeros(len(known)), -torch.ones(len(unknown))]).long()
    return TensorDataset(torch.tensor(np.concatenate([known, unknown])), labels)


def theirs(material: Material, names: Sequence[str]) -> tuple[Table, dict[str, float]]:
    """As :func:`ours`, with pytorch-ood's detectors and metrics on kept outputs; ``loop`` is the time of its
    own loop over batches for all of them."""
    head = torch.nn.Linear(material.W.shape[1], material.W.shape[0], bias=False)
    head.weight.data.copy_(torch.tensor(material.W))
    built: dict[str, Callable[[], Any]] = {
        "msp": lambda: detectors.MaxSoftmax(head),
        "mls": lambda: detectors.MaxLogit(head),
        "energy": lambda: detectors.EnergyBased(head),
        "entropy": lambda: detectors.Entropy(head),
        "knn": lambda: detectors.KNN(torch.nn.Identity(), k=50),
    }
    train = torch.tensor(material.train)
    kept = {
        name: (
            torch.tensor(np.concatenate([material.known @ material.W.T, X @ material.W.T])),
            torch.tensor(np.concatenate([material.known, X])),
            torch.cat([torch.zeros(len(material.known)), -torch.ones(len(X))]),
        )
        for name, X in material.unknown.items()
    }
    table: Table = {}
    seconds, fitted = {}, []
    for name in names:
        start = time.perf_counter()
        detector = built[name]()
        if name == "knn":
            detector.fit_features(train, torch.zeros(len(train)))
        fitted.append(detector)
        fitting = time.perf_counter() - start
        for member, (logits, features, labels) in kept.items():
            metrics = OODMetrics()
            scores = detector.predict_features(features) if name == "knn" else detector.predict_logits(logits)
            found = metrics.update(scores, labels).compute()
            table[f"{name}/{member}"] = {"auroc": found["AUROC"], "fpr95": found["FPR95TPR"]}
        seconds[name] = time.perf_counter() - start
    start = time.perf_counter()
    Theirs(material).evaluate(fitted, loader_kwargs={"batch_size": BATCH})
    seconds["loop"] = time.perf_counter() - start + fitting
    return table, seconds


def compare(material: Material, rounds: int) -> list[Figure]:
    """Ratios of time, and agreement of the numbers."""
    found = interleave(
        {"ours": lambda: ours(material, SHARED), "theirs": lambda: theirs(material, SHARED)}, rounds
    )
    own, other = found[0]["ours"][0], found[0]["theirs"][0]
    print(f"{'score/set':<18}{'AUROC ours':>12}{'pytorch-ood':>12}{'FPR95* ours':>13}{'pytorch-ood':>12}")
    for key in own:
        numbers = (own[key]["auroc"], other[key]["auroc"], own[key]["fpr95"], other[key]["fpr95"])
        print(f"{key:<18}{numbers[0]:>12.6f}{numbers[1]:>12.6f}{numbers[2]:>13.6f}{numbers[3]:>12.6f}")
    print("* of the ID images, those rejected with 95 % of the OOD images: pytorch-ood's convention")
    every = [(name, [each["theirs"][1][name] / each["ours"][1][name] for each in found]) for name in SHARED]
    totals = [sum(each["ours"][1].values()) for each in found]
    kept = [sum(each["theirs"][1][name] for name in SHARED) for each in found]
    loops = [each["theirs"][1]["loop"] for each in found]
    start = time.perf_counter()
    ours(material, ("gradnorm",))
    gradnorm = time.perf_counter() - start
    return [
        Figure("agree", "largest difference of AUROC", "", [_apart(own, other, "auroc")]),
        Figure("agree", "largest difference of FPR95", "", [_apart(own, other, "fpr95")]),
        *(
            Figure("ratio", f"pytorch-ood / ours, kept outputs, {name}", "x", values)
            for name, values in every
        ),
        Figure("ratio", "pytorch-ood / ours, kept outputs, all of these", "x", _ratios(kept, totals)),
        Figure("ratio", "pytorch-ood's own loop / ours, all of these", "x", _ratios(loops, totals)),
        Figure("time", "ours, all of these", "s", totals),
        Figure("time", "ours, gradnorm", "s", [gradnorm]),
    ]


def _ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def _apart(own: Table, other: Table, metric: str) -> float:
    return max(abs(own[key][metric] - other[key][metric]) for key in own)


def m9(rounds: int, images: int = M9_IMAGES, classes: int = M9_CLASSES) -> list[Figure]:
    """All logit scores against MSP alone, as it is, and as it would be if it shared nothing."""
    logits = (np.random.default_rng(SEED).normal(size=(images, classes)) * 4.0).astype(np.float32)

    def timed(work: Callable[[], Any]) -> Callable[[], float]:
        def best() -> float:
            times = []
            for _ in range(3):
                start = time.perf_counter()
                work()
                times.append(time.perf_counter() - start)
            return min(times)

        return best

    def all_four() -> None:
        evidence = Evidence(logits, logits[:, :0])
        for detector in (MSP(), MLS(), Energy(), Entropy()):
            detector(evidence)

    def former() -> Any:
        Z = np.asarray(logits, dtype=np.float64)
        np.isfinite(Z).all()
        rest = Z.copy()
        rest[np.arange(len(Z)), Z.argmax(axis=1)] = -np.inf
        second = rest.max(axis=1)
        total = second + np.log(np.exp(rest - second[:, None]).sum(axis=1))
        return np.logaddexp(0.0, Z.max(axis=1) - total)

    found = interleave(
        {
            "all": timed(all_four),
            "msp": timed(lambda: MSP()(Evidence(logits, logits[:, :0]))),
            "bare": timed(lambda: _bare_msp(logits)),
            "whole": timed(former),
        },
        rounds,
    )
    wanted = {"msp": "<= 1.1x", "bare": "", "whole": ""}
    what = {
        "msp": "all logit scores / MSP alone",
        "bare": "all logit scores / MSP alone without what only entropy needs",
        "whole": "all logit scores / MSP alone on whole arrays",
    }
    figures = [
        Figure("M9", what[key], "x", [each["all"] / each[key] for each in found], wanted[key]) for key in what
    ]
    return [*figures, Figure("M9", "all logit scores", "ms", [1e3 * each["all"] for each in found])]


def _bare_msp(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """MSP in the same blocks, without the sum that only the entropy needs."""
    margin = np.empty(len(logits))
    images = max(64, evidence_module.BLOCK_NUMBERS // logits.shape[1])
    for start in range(0, len(logits), images):
        part = logits[start : start + images]
        D = np.array(part.T, dtype=np.float64, order="C")
        largest, columns = part.argmax(axis=1), np.arange(len(part))
        peak = D[largest, columns]
        D[largest, columns] = -np.inf
        second = D.max(axis=0)
        D -= second
        margin[start : start + images] = peak - second - np.log(np.exp(D, out=D).sum(axis=0))
    scores: npt.NDArray[np.float64] = np.logaddexp(0.0, margin)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000, help="of the ID set and of each OOD set")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--sets", type=int, default=6)
    parser.add_argument("--train", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--threads", type=int, default=None, help="of both sides; left as they are by default"
    )
    arguments = parser.parse_args()
    sizes = (arguments.images, arguments.classes, arguments.features, arguments.sets, arguments.train)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        figures = [*compare(draw(*sizes), arguments.rounds), *m9(max(arguments.rounds, 5))]
    print("\n".join(map(line, figures)))


if __name__ == "__main__":
    main()
