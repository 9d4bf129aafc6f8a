"""Named training recipes: published settings that a study takes with one word and may override one by one.

Plain data, without torch. ``training`` holds fields of :class:`workloads.contract.TrainingConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """Training settings under one name."""

    name: str
    meaning: str
    source: str
    training: Mapping[str, Any] = field(default_factory=dict)


LAPTOP: Mapping[str, Any] = {
    "epochs": 15,
    "batch_size": 128,
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 5e-4,
    "schedule": "one_cycle",
    "precision": "bf16",
    "augmentation": {"flip": True, "crop": 4},
}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "logitnorm_paper",
            "SGD for 200 epochs, rate 0.1 divided by 10 at epochs 80 and 140, crop and flip",
            "Wei et al. 2022, section 4.1",
            {
                "epochs": 200,
                "batch_size": 128,
                "optimizer": "sgd",
                "lr": 0.1,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "schedule": "step",
                "milestones": (0.4, 0.7),
                "gamma": 0.1,
                "augmentation": {"flip": True, "crop": 4},
            },
        ),
        Recipe(
            "openood",
            "SGD with Nesterov momentum for 100 epochs, rate 0.1 on a cosine to 1e-6, crop and flip",
            "OpenOOD v1.5, its CIFAR baseline",
            {
                "epochs": 100,
                "batch_size": 128,
                "optimizer": "sgd",
                "lr": 0.1,
                "momentum": 0.9,
                "nesterov": True,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "min_lr": 1e-6,
                "augmentation": {"flip": True, "crop": 4},
            },
        ),
        Recipe(
            "arcgrad_resnet",
            "Muon for 100 epochs, 10 of warm-up, rate 0.002, each image augmented three ways, random erasing",
            'README "Large Margin Classification" (ResNet-18 with a deep stem and output stride 8)',
            {
                "epochs": 100,
                "batch_size": 128,
                "optimizer": "muon",
                "lr": 0.002,
                "momentum": 0.95,
                "nesterov": True,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "warmup_epochs": 10,
                "augmentation": {"flip": True, "crop": 4, "erasing": 0.1, "repeats": 3},
            },
        ),
        Recipe(
            "arcgrad_vit",
            "AdamW for 200 epochs, rate 0.001, decay 0.05, three augmentations an image, random erasing",
            'README "Large Margin Classification" (ViT-tiny with patches of 2)',
            {
                "epochs": 200,
                "batch_size": 256,
                "optimizer": "adamw",
                "lr": 0.001,
                "weight_decay": 0.05,
                "decay_norms_and_biases": False,
                "schedule": "cosine",
                "warmup_epochs": 5,
                "augmentation": {"flip": True, "crop": 4, "erasing": 0.1, "repeats": 3},
            },
        ),
        Recipe(
            "hem_paper",
            "SGD for 200 epochs, rate 0.05 on a cosine, crop and flip",
            "Spratling and Schütt 2025 for the rate; the rest, not known to us, is the usual CIFAR recipe",
            {
                "epochs": 200,
                "batch_size": 128,
                "optimizer": "sgd",
                "lr": 0.05,
                "momentum": 0.9,
                "weight_decay": 5e-4,
                "schedule": "cosine",
                "augmentation": {"flip": True, "crop": 4},
            },
        ),
        Recipe(
            "ldam_drw",
            "SGD for 200 epochs, 5 of warm-up, rate 0.1, times 0.01 at epochs 160 and 180, crop and flip",
            "public code of kaidic/LDAM-DRW (long-tailed CIFAR, ResNet-32)",
            {
                "epochs": 200,
                "batch_size": 128,
                "optimizer": "sgd",
                "lr": 0.1,
                "momentum": 0.9,
                "weight_decay": 2e-4,
                "schedule": "step",
                "milestones": (0.8, 0.9),
                "gamma": 0.01,
                "warmup_epochs": 5,
                "augmentation": {"flip": True, "crop": 4},
            },
        ),
        Recipe(
            "laptop",
            "SGD for 15 epochs, one-cycle to 0.1, in bfloat16: minutes on a laptop's CPU",
            "this project",
            LAPTOP,
        ),
        Recipe(
            "laptop_ema",
            "laptop, evaluated at a running mean of the weights",
            "this project",
            {**LAPTOP, "ema_decay": 0.99},
        ),
    )
}
