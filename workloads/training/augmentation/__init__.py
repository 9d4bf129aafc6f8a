"""Augmentation of whole batches, on the device where they are, with decisions that are drawn in advance.

``draw`` once an epoch; then, for every batch, ``augment`` its uint8 images, normalise them, ``erase`` and
``mix``. Nothing in a batch waits for the device, except that torchvision sends a matrix there for each of
RandAugment's shears, shifts and rotations.
"""

from workloads.training.augmentation.draws import Draws, draw, repeated
from workloads.training.augmentation.erasing import erase
from workloads.training.augmentation.geometry import augment
from workloads.training.augmentation.mixing import mix
from workloads.training.augmentation.rules import check

__all__ = ["Draws", "augment", "check", "draw", "erase", "mix", "repeated"]
