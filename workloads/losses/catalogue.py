"""The losses that a study can name.

Facts of an entry: ``head`` (what the model's head must hand over) and ``targets`` (``soft``: also usable
with mixup, label smoothing and distillation).
"""

from __future__ import annotations

from collections.abc import Mapping

from workloads.catalogue import Entry, Parameter
from workloads.losses.entries.angles import ANGLES
from workloads.losses.entries.imbalance import IMBALANCE
from workloads.losses.entries.margins import MARGINS
from workloads.losses.entries.norms import NORMS
from workloads.losses.entries.regression import REGRESSION
from workloads.losses.entries.softmax import SOFTMAX
from workloads.losses.entries.terms import at_least_zero, word

LOSSES: dict[str, Entry] = {**SOFTMAX, **REGRESSION, **NORMS, **ANGLES, **MARGINS, **IMBALANCE}

AUXILIARY: Mapping[str, Parameter] = {
    "triplet": at_least_zero(0.0, "weight of the triplet loss on the features that enter the head"),
    "triplet_margin": at_least_zero(0.2, "its margin, in distances of unit features"),
    "triplet_mining": word(
        "batch_hard", "which triplets of a batch count", "batch_hard", "batch_all", "semi_hard"
    ),
}
"""Terms that any arm may add to its loss, whatever the loss; weight 0 leaves them out."""
