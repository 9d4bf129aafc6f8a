"""The training settings of a study: a named recipe, and over it what the file says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from orchestrator.study.document import Document, Node, is_null, join, kind, read_text
from orchestrator.study.reader import BAD, guarded, read_fields
from orchestrator.study.suggestion import did_you_mean
from workloads.contract import AugmentationConfig, SaturatedConfig, SkipConfig, TrainingConfig
from workloads.recipes import RECIPES, Recipe

AUGMENTATIONS: Mapping[str, AugmentationConfig] = {
    "none": AugmentationConfig(),
    "flip": AugmentationConfig(flip=True),
    "crop": AugmentationConfig(crop=4),
    "crop_flip": AugmentationConfig(flip=True, crop=4),
}
"""Short words for the usual augmentations; 4 pixels are the usual padding at 32x32."""


def recipe_training(recipe: Recipe) -> TrainingConfig:
    """A recipe's settings, with the defaults for what it does not set."""
    blocks = {"augmentation": AugmentationConfig, "skip": SkipConfig, "saturated": SaturatedConfig}
    settings = {
        key: blocks[key](**value) if key in blocks else value for key, value in recipe.training.items()
    }
    return TrainingConfig(**settings)


def base_training(doc: Document, root: Node) -> TrainingConfig:
    """What a study starts from: its ``recipe``, else the defaults. An unknown recipe is noted."""
    for key, _, node in doc.items(root, ""):
        if key == "recipe" and not is_null(node):
            name = guarded(doc, node, key, partial(read_text, node))
            if name in RECIPES:
                return recipe_training(RECIPES[name])
            if name is not BAD:
                doc.problem(key, f"unknown recipe; got {name!r}", did_you_mean(name, RECIPES), node)
    return TrainingConfig()


def read_training(doc: Document, node: Node, path: str, base: TrainingConfig) -> TrainingConfig:
    """``training: {...}`` over ``base``: what the file does not say stays."""

    def augmentation(doc: Document, node: Node, path: str) -> AugmentationConfig:
        return read_augmentation(doc, node, path, base.augmentation)

    def skip(doc: Document, node: Node, path: str) -> SkipConfig:
        read: SkipConfig = _over(doc, node, path, base.skip, {})
        return read

    def saturated(doc: Document, node: Node, path: str) -> SaturatedConfig:
        read: SaturatedConfig = _over(doc, node, path, base.saturated, {})
        return read

    special = {AugmentationConfig: augmentation, SkipConfig: skip, SaturatedConfig: saturated}
    read: TrainingConfig = _over(doc, node, path, base, special)
    return read


def read_augmentation(doc: Document, node: Node, path: str, base: AugmentationConfig) -> AugmentationConfig:
    """``augmentation: WORD``, or ``augmentation: {...}`` over ``base``."""
    if kind(node) == "map":
        read: AugmentationConfig = _over(doc, node, path, base, {})
        return read
    word = guarded(doc, node, path, lambda: read_text(node))
    if word is BAD:
        return base
    if word not in AUGMENTATIONS:
        fields = ", ".join(f.name for f in dataclasses.fields(AugmentationConfig))
        rule = f"must be {', '.join(AUGMENTATIONS)} or a mapping of {fields}; got {word!r}"
        doc.problem(path, rule, did_you_mean(word, AUGMENTATIONS), node)
    return AUGMENTATIONS.get(word, base)


def _over(doc: Document, node: Node, path: str, base: Any, special: Mapping[Any, Any]) -> Any:
    """A dataclass with the fields that the mapping sets, and the others from ``base``."""
    items = doc.items(node, path)
    read = read_fields(doc, node, items, type(base), path, special)
    known = {field.name for field in dataclasses.fields(base)}
    said = {key for key, _, _ in items if key in known and doc.sound(join(path, key))}
    return dataclasses.replace(base, **{key: getattr(read, key) for key in said})


def mixed(training: TrainingConfig) -> list[str]:
    """The settings that mix labels, among mixup and cutmix."""
    return [key for key in ("mixup", "cutmix") if getattr(training.augmentation, key) > 0]
