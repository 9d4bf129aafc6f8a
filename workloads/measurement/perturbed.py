"""Scores that ask the model again, of images moved along a gradient."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from workloads.evaluation.catalogue import SCORES
from workloads.evaluation.evidence import DoesNotFit
from workloads.evaluation.perturbation import godin, odin, tune_godin, tune_odin
from workloads.evaluation.score_names import TUNED, ScoreName
from workloads.measurement.ood import Scored
from workloads.measurement.subject import Subject

Images = npt.NDArray[np.uint8]
BATCH = 64


class Perturbing:
    """ODIN and GODIN of a model; epsilon is a step in pixels of [0, 1].

    Args:
        validation: ID validation images; they and ``noise`` choose an epsilon that is to be tuned.
        noise: the Gaussian-noise validation sets.
        asked: the images to score, by set.
    """

    def __init__(
        self,
        subject: Subject,
        validation: Images,
        noise: Mapping[str, Images],
        asked: Mapping[str, Images],
    ) -> None:
        self.subject = subject
        self.validation = validation
        self.noise = noise
        self.asked = asked

    @property
    def _unit(self) -> tuple[float, ...]:
        """Epsilon counts in pixels of [0, 1], as in the authors' code and numbers."""
        return (1.0,) * int(self.validation.shape[1])

    def __call__(self, name: ScoreName) -> Scored:
        """Raises: DoesNotFit where the model's head is not the one that the score is for."""
        with self.subject.still():
            return self._godin(name) if name.name == "godin" else self._odin(name)

    def _odin(self, name: ScoreName) -> Scored:
        params = name.resolved()
        T, epsilon = float(params["T"]), params["epsilon"]
        tuned: dict[str, float] = {}
        if epsilon == TUNED:
            noise = {key: self.subject.tensor(images) for key, images in self.noise.items()}
            validation = self.subject.tensor(self.validation)
            epsilon = tune_odin(
                self.subject.logits, validation, noise, _candidates(name), T=T, std=self._unit, batch=BATCH
            )
            tuned["epsilon"] = epsilon
        return Scored(
            {
                key: odin(
                    self.subject.logits,
                    self.subject.tensor(images),
                    epsilon=float(epsilon),
                    T=T,
                    std=self._unit,
                    batch=BATCH,
                )
                for key, images in self.asked.items()
            },
            tuned,
        )

    def _godin(self, name: ScoreName) -> Scored:
        kind = self.subject.loss.head.kind
        if kind != "godin":
            raise DoesNotFit(f"needs a GODIN head (loss godin); this model's is {kind}")
        epsilon = name.resolved()["epsilon"]
        tuned: dict[str, float] = {}
        if epsilon == TUNED:
            validation = self.subject.tensor(self.validation)
            epsilon = tune_godin(
                self.subject.similarity, validation, _candidates(name), std=self._unit, batch=BATCH
            )
            tuned["epsilon"] = epsilon
        return Scored(
            {
                key: godin(
                    self.subject.similarity,
                    self.subject.tensor(images),
                    epsilon=float(epsilon),
                    std=self._unit,
                    batch=BATCH,
                )
                for key, images in self.asked.items()
            },
            tuned,
        )


def _candidates(name: ScoreName) -> tuple[float, ...]:
    return SCORES[name.name].parameters["epsilon"].tunable
