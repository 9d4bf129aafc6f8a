"""The catalogue of rejection scores: what says how surely an image is of a known kind.

``needs`` says what a score looks at: ``logits``; ``features``, the head's input and weights too; ``train``,
the training images' features too; ``model``, the network itself, to change the image.
"""

from __future__ import annotations

from workloads.catalogue import Entry, Parameter

LOGITS, FEATURES, TRAIN, MODEL = ({"needs": what} for what in ("logits", "features", "train", "model"))
LIBRARY = "pytorch-ood"
"""The optional extra that the scores of this family need."""
PERCENTILES = (65.0, 70.0, 75.0, 80.0, 85.0, 90.0, 95.0)
"""What OpenOOD chooses among."""


def _temperature(default: float, *tunable: float) -> Parameter:
    return Parameter("float", default, "temperature", low=0.0, low_open=True, tunable=tunable)


def _step(*tunable: float) -> Parameter:
    return Parameter(
        "float", "tuned", "step on each pixel", low=0.0, unit="pixel value, 0 to 1", tunable=tunable
    )


def _percentile(default: float, meaning: str, tunable: tuple[float, ...] = PERCENTILES) -> Parameter:
    return Parameter("float", default, meaning, low=0.0, high=100.0, unit="percent", tunable=tunable)


SCORES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "msp",
            "workloads.evaluation.scores.logits:MSP",
            "maximum softmax probability, ranked as -log(1 - p_max) so that it cannot saturate",
            "Hendrycks and Gimpel 2017 (arXiv 1610.02136)",
            facts=LOGITS,
        ),
        Entry(
            "mls",
            "workloads.evaluation.scores.logits:MLS",
            "maximum logit",
            "Hendrycks et al. 2022 (arXiv 1911.11132)",
            facts=LOGITS,
        ),
        Entry(
            "energy",
            "workloads.evaluation.scores.logits:Energy",
            "negative free energy, T times the log of the softmax denominator at temperature T",
            "Liu et al. 2020 (arXiv 2010.03759), eq. 4",
            {"T": _temperature(1.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0)},
            LOGITS,
        ),
        Entry(
            "entropy",
            "workloads.evaluation.scores.logits:Entropy",
            "Shannon entropy of the softmax, ranked as -log(H) so that it cannot saturate",
            "Chan et al. 2021 (arXiv 2012.06575)",
            facts=LOGITS,
        ),
        Entry(
            "gradnorm",
            "workloads.evaluation.scores.features:GradNorm",
            "L1 norm of the gradient on the head's weights of the cross-entropy against a uniform target",
            "Huang et al. 2021 (arXiv 2110.00218)",
            {"T": _temperature(1.0)},
            FEATURES,
        ),
        Entry(
            "cosine",
            "workloads.evaluation.scores.features:CosineMax",
            "largest cosine between the features and a class weight; cosine heads only",
            "Techapanurak et al. 2020 (arXiv 1905.10628)",
            facts=FEATURES,
        ),
        Entry(
            "knn",
            "workloads.evaluation.scores.neighbours:KNN",
            "minus the distance to the k-th nearest training image",
            "Sun et al. 2022 (arXiv 2204.06507), k = 50 for CIFAR-10",
            {
                "k": Parameter("int", 50, "which neighbour", low=1, tunable=(50, 100, 200, 500, 1000)),
                "normalise": Parameter("bool", True, "divide each image's features by their L2 norm"),
            },
            TRAIN,
        ),
        Entry(
            "odin",
            "workloads.evaluation.perturbation:odin",
            "maximum softmax probability at a high temperature, after a step that raises it",
            "Liang et al. 2018 (arXiv 1706.02690): epsilon 0.0014 for CIFAR-10, T = 1000",
            {
                "T": _temperature(1000.0),
                "epsilon": _step(0.0, 0.0005, 0.001, 0.0014, 0.002, 0.0024, 0.005, 0.01, 0.02, 0.05),
            },
            MODEL,
        ),
        Entry(
            "godin",
            "workloads.evaluation.perturbation:godin",
            "largest numerator h of a GODIN head, after a step that raises it; GODIN heads only",
            "Hsu et al. 2020 (arXiv 2002.11297)",
            {"epsilon": _step(0.0, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08)},
            MODEL,
        ),
        Entry(
            "mahalanobis",
            "workloads.evaluation.detectors:Mahalanobis",
            "minus the squared Mahalanobis distance to the nearest class mean",
            "Lee et al. 2018 (arXiv 1807.03888)",
            facts=TRAIN,
        ),
        Entry(
            "rmd",
            "workloads.evaluation.detectors:RMD",
            "Mahalanobis distance relative to that from all training images as one class",
            "Ren et al. 2021 (arXiv 2106.09022)",
            facts=TRAIN,
        ),
        Entry(
            "vim",
            "workloads.evaluation.detectors:ViM",
            "energy minus a virtual logit, the features' distance from their principal subspace",
            "Wang et al. 2022 (arXiv 2203.10807)",
            {"d": Parameter("int", 0, "dimensions of the subspace; 0: chosen by rule", low=0)},
            TRAIN,
        ),
        Entry(
            "react",
            "workloads.evaluation.detectors:ReAct",
            "energy after features are cut at a percentile of the training images' features",
            "Sun et al. 2021 (arXiv 2111.12797)",
            {"percentile": _percentile(90.0, "of all training features", (85.0, 90.0, 95.0, 99.0))},
            TRAIN,
            family=LIBRARY,
        ),
        Entry(
            "ash",
            "workloads.evaluation.detectors:ASH",
            "energy after the lowest features of an image are removed and the others scaled (ASH-S)",
            "Djurisic et al. 2023 (arXiv 2209.09858); 90 as in its code for CIFAR and in OpenOOD",
            {"percentile": _percentile(90.0, "share of the features removed")},
            TRAIN,
            family=LIBRARY,
        ),
        Entry(
            "scale",
            "workloads.evaluation.detectors:SCALE",
            "energy after an image's features are scaled by how much its highest ones weigh",
            "Xu et al. 2024 (arXiv 2310.00227); default of the authors' code and of OpenOOD",
            {"percentile": _percentile(85.0, "share of the features that do not count as highest")},
            TRAIN,
            family=LIBRARY,
        ),
        Entry(
            "gen",
            "workloads.evaluation.detectors:GEN",
            "generalised entropy of the M largest probabilities",
            "Liu et al. 2023 (CVPR; GEN), gamma = 0.1 and M = 100",
            {
                "gamma": Parameter("float", 0.1, "power of p (1 - p)", low=0.0, low_open=True),
                "M": Parameter("int", 100, "probabilities counted, all where there are fewer", low=1),
            },
            LOGITS,
        ),
        Entry(
            "fdbd",
            "workloads.evaluation.detectors:FDBD",
            "mean distance to the decision boundaries, relative to that from the mean training image",
            "Liu and Qin 2024 (arXiv 2312.11536)",
            facts=TRAIN,
        ),
        Entry(
            "she",
            "workloads.evaluation.detectors:SHE",
            "inner product with the mean features of the predicted class",
            "Zhang et al. 2023 (ICLR; SHE)",
            facts=TRAIN,
        ),
    )
}
