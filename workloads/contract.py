"""The contract between the two packages: all that the orchestrator may know of a training run.

Everything here is frozen, plain and JSON-serialisable; nothing imports torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from workloads.catalogue import Value
from workloads.protocol_config import ContinualConfig, LongTailedConfig

Stage = Literal["search", "confirm", "audit"]
Protocol = Literal["standard", "long_tailed", "continual"]
Precision = Literal["float32", "tf32", "bf16"]
Measure = Literal["ood", "calibration", "geometry", "robustness"]
Attack = Literal["fgsm", "pgd", "autoattack"]
Objective = Literal["ce", "scaled_ce", "dlr", "margin"]
ParameterValue = Value | Mapping[str, Value]
"""A value, or an expression of it such as ``{"scale": 2000.0}``."""


@dataclass(frozen=True)
class DataConfig:
    """What is learned, and what must be rejected."""

    source: str
    """Name in the catalogue of data sources, or the path of a folder (it has a / in it, or begins with . or
    ~)."""
    id_classes: tuple[int, ...] | None = None
    """Source labels that are in-distribution, relabelled 0..C-1 in this order; None: all."""
    validation_fraction: float = 0.2
    """Share of the training part that is held out for validation, stratified by class."""
    split_seed: int = 0
    """Seed of that split (the same for every trial of a study)."""
    near_ood: tuple[str, ...] = ()
    """Near-OOD test sets: sources, paths, ``held_out`` or synthetic sets (see ``workloads.data.names``)."""
    far_ood: tuple[str, ...] = ()
    """Far-OOD test sets."""
    train_fraction: float = 1.0
    """Share of the training images that is kept after the validation split, stratified by class, in (0, 1].
    The images of a smaller share are among those of a larger one."""
    normalisation: Literal["computed", "stated"] = "computed"
    """Mean and standard deviation of each channel: of the training images, or those published."""


@dataclass(frozen=True)
class ModelConfig:
    """The architecture, by catalogue name, with its parameters."""

    name: str
    params: Mapping[str, Value] = field(default_factory=dict)
    projector: int | None = None
    """Width E of a projector before the head, Linear(D, 4E)-ReLU-BN-Linear(4E, E)-BN, the same for every
    loss; None: no projector."""


@dataclass(frozen=True)
class AugmentationConfig:
    """What is done to training images at random; nothing by default."""

    flip: bool = False
    """Horizontal flip with probability 1/2."""
    crop: int | None = None
    """Pixels of padding before a random crop to the original size; None: no crop."""
    padding: Literal["zero", "reflect"] = "zero"
    """What a crop is padded with."""
    erasing: float = 0.0
    """Probability that a random rectangle is replaced by noise."""
    randaugment: int = 0
    """RandAugment: operations an image; 0: off."""
    randaugment_magnitude: int = 9
    """RandAugment: strength, of 30."""
    mixup: float = 0.0
    """Alpha of Beta(alpha, alpha); 0: off. For losses with soft targets."""
    cutmix: float = 0.0
    """Alpha of Beta(alpha, alpha); 0: off. With mixup as well, each image has one of the two."""
    repeats: int = 1
    """Repeated augmentation: how often an image stands in an epoch, each time augmented anew."""


@dataclass(frozen=True)
class SkipConfig:
    """Images that sit out some epochs because they had little left to teach; none by default."""

    rule: Literal["none", "zero_loss", "lowest_loss", "random"] = "none"
    """Who sits out after an epoch that showed it: images whose loss was zero (every time, with repeats);
    those of lowest loss, as many as ``share`` says (the control for losses that are never zero); or as many
    at random. The first epoch shows all images, and so does one that would show fewer than two."""
    epochs: int = 1
    """How long; then the image is shown, and judged anew."""
    share: float = 0.0
    """``lowest_loss`` and ``random``: of the images that an epoch showed, [0, 1), to the nearest image."""
    recheck: float = 0.0
    """Probability that an image which should sit out an epoch is shown all the same, and judged anew."""


@dataclass(frozen=True)
class SaturatedConfig:
    """RandAugment for the images whose loss was zero when they were shown last, whether they had RandAugment
    then or not; for none by default."""

    rule: Literal["none", "zero_loss", "lowest_loss", "random"] = "none"
    """``lowest_loss``: those of lowest loss, as many as ``share`` says. ``random``: as many as had zero loss
    (where ``share`` is above 0: that share), drawn anew every epoch; the control. The first epoch has none:
    no loss is known."""
    share: float = 0.0
    """``lowest_loss`` and ``random``: of the images of an epoch, [0, 1), to the nearest image."""
    operations: int = 2
    """Of RandAugment an image."""
    magnitude: int = 9
    """Of RandAugment, of 30."""


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe, the same for every arm but for what the arm itself sets (``lr``, ``weight_decay``)."""

    epochs: int = 20
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    """``muon``: for the matrices of the trunk, AdamW for the rest."""
    lr: float = 0.1
    """Peak learning rate."""
    min_lr: float = 0.0
    """``cosine`` only: the rate that it falls to."""
    momentum: float = 0.9
    """Of SGD and Muon."""
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_norms_and_biases: bool = True
    """Whether weight decay also applies to biases and to scales and shifts of norms, as in most papers on
    these losses."""
    schedule: Literal["constant", "cosine", "step", "one_cycle"] = "cosine"
    milestones: tuple[float, ...] = (0.4, 0.7)
    """``step`` only: fractions of training at which the rate is multiplied by ``gamma``."""
    gamma: float = 0.1
    warmup_epochs: int = 0
    """Linear warm-up from 0 to ``lr``, in epochs."""
    augmentation: AugmentationConfig = AugmentationConfig()
    skip: SkipConfig = SkipConfig()
    saturated: SaturatedConfig = SaturatedConfig()
    clip_grad_norm: float | None = None
    """Largest L2 norm of the gradient, or None."""
    precision: Precision = "float32"
    """``bf16``: the trunk under autocast, head and loss in float32. ``tf32``: float32 with faster, less exact
    products on a GPU."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the model; ``auto``: where it was measured to pay."""
    ema_decay: float | None = None
    """Evaluate at a running mean of the weights, which keeps this share at each step; None: do not."""
    evaluate_every: int = 1
    """Epochs between validation reports (the last epoch always reports)."""
    checkpoint_every: int = 5
    """Epochs between resumable checkpoints; no influence on any result."""


@dataclass(frozen=True)
class NoiseConfig:
    """The Gaussian-noise validation set: clip(N(mean, sigma), 0, 1) in pixel space, stored as uint8."""

    sigmas: tuple[float, ...] = (0.25,)
    mean: float = 0.5
    size: int = 1000
    """Images per sigma."""
    seed: int = 0


@dataclass(frozen=True)
class OODConfig:
    """Rejection of what is not in-distribution."""

    scores: tuple[str, ...] = ("msp", "mls", "energy", "entropy", "gradnorm", "knn")
    """Scores of the catalogue, with parameters that are not the defaults: ``energy:T=0.1``, or ``tuned`` for
    a value that validation chooses."""
    headline: str = "msp"
    """The score of the objective, the table and the comparison; one of ``scores``, computed from logits."""


@dataclass(frozen=True)
class CalibrationConfig:
    """Whether confidences are right as often as they say."""

    bins: int = 15
    """Of every binned calibration error."""


@dataclass(frozen=True)
class RobustnessConfig:
    """Accuracy under attack and under corruptions."""

    images: int = 1000
    """Test images, drawn once for all trials; at most as many as there are."""
    attacks: tuple[Attack, ...] = ("fgsm", "pgd")
    """``autoattack`` needs the package pyautoattack, and minutes for a hundred images on a CPU."""
    objectives: tuple[Objective, ...] = ("ce", "scaled_ce", "dlr", "margin")
    """What ``fgsm`` and ``pgd`` increase; the minimum over all is reported too. ``dlr``: three classes or
    more."""
    epsilons: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """Largest change of a pixel, in 1/255."""
    steps: int = 20
    """Of ``pgd``."""
    corruptions: tuple[str, ...] | None = None
    """Names of ``workloads.evaluation.corruptions``; None: all that the images allow."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured of a confirmed model."""

    measures: tuple[Measure, ...] = ("ood", "calibration", "geometry")
    ood: OODConfig = OODConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    robustness: RobustnessConfig = RobustnessConfig()

    @property
    def headline(self) -> str:
        return self.ood.headline


@dataclass(frozen=True)
class TrialConfig:
    """One training run, complete: two equal configurations give equal results (on CPU, to the bit)."""

    arm: str
    stage: Stage
    protocol: Protocol
    seed: int
    loss: str
    """Catalogue name, or the import path of a user's own loss."""
    loss_params: Mapping[str, ParameterValue]
    data: DataConfig
    data_hash: str
    """Content hash of the prepared data (see ``workloads.run.prepare``)."""
    model: ModelConfig
    training: TrainingConfig
    noise: NoiseConfig
    evaluation: EvaluationConfig
    long_tailed: LongTailedConfig | None = None
    """Of protocol ``long_tailed``."""
    continual: ContinualConfig | None = None
    """Of protocol ``continual``."""

    @property
    def key(self) -> str:
        """16 hex digits: a hash of everything that can change the result. Names the trial's folder."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        record: dict[str, Any] = _plain(dataclasses.asdict(self))
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> TrialConfig:
        """The inverse of :meth:`to_dict`, also after a trip through JSON (lists become tuples again)."""
        built: TrialConfig = _built(cls, record)
        return built


@dataclass(frozen=True)
class AddedSet:
    """An OOD set that a finished study did not have: where it was prepared."""

    name: str
    """What the prepared data call it."""
    data: DataConfig
    data_hash: str

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> AddedSet:
        """The inverse of ``dataclasses.asdict``."""
        built: AddedSet = _built(cls, record)
        return built


@dataclass(frozen=True)
class EpochReport:
    """What a trial says after an epoch that it evaluated. Reports may repeat after a resume."""

    epoch: int
    """Finished epochs, 1..training.epochs."""
    metrics: Mapping[str, float]
    """``train/loss``, ``train/accuracy``, ``train/lr``, ``validation/accuracy``, ``validation/nll``,
    ``validation/ece_<bins>``, ``noise/fpr95`` and ``noise/auroc`` (headline score, means over the sigmas),
    ``loss/...`` (stats of the loss)."""


@dataclass(frozen=True)
class TrialResult:
    """What a trial that ran to its end measured. ``docs/metrics.md`` explains every name."""

    metrics: Mapping[str, float]
    """Search: those of the last report. Confirm: also ``test/accuracy``, ``calibration/...``,
    ``ood/<set, near or far>/<score>/<metric>``, ``geometry/...``, ``robustness/...``."""
    train_seconds: float
    evaluation_seconds: float
    parameters: int
    """Trainable parameters of the model and the loss."""
    notes: tuple[str, ...] = ()
    """What could not be measured, or needs care, in words."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of the process that finished it: ``device`` (a GPU's or the processor's model) and ``torch``."""


@dataclass(frozen=True)
class DataFacts:
    """What the data turned out to be, once prepared: hashed into every trial key, printed in the report."""

    hash: str
    """Over every prepared array (train, validation, test, noise, OOD), 16 hex digits."""
    num_train: int
    """Training images, after the validation split."""
    num_validation: int
    num_test: int
    num_classes: int
    image_shape: tuple[int, int, int]
    """Channels, height, width."""
    sets: Mapping[str, Mapping[str, Value]]
    """Every prepared set by name: ``kind`` (train, validation, test, noise, near, far), ``size`` and
    ``hash``; and of where it is from: ``encoding`` (jpeg, png, raw, synthetic ...), ``conversion`` (none,
    resize 64->32, grey_to_colour ...), ``source_hash`` (over the raw files), ``duplicates_of_train`` (images
    whose pixels are exactly a training image's), ``dropped_overlap`` (left out, as they show ID classes)."""
    train_counts: tuple[int, ...] = ()
    """Training images of each class; empty where nobody asked."""


class SealedTest(PermissionError):
    """A trial of stage ``search`` asked for test data."""


class TrainingDiverged(ArithmeticError):
    """The loss or the weights stopped being finite."""


class DataMissing(FileNotFoundError):
    """A data source's files are not where they should be; the message says how to get them."""


def _built(cls: Any, record: Mapping[str, Any]) -> Any:
    """A dataclass from its plain mapping, with the dataclasses inside it."""
    hints = get_type_hints(cls)
    values = {}
    for name, value in record.items():
        hint = hints.get(name)
        if type(None) in get_args(hint) and value is not None:
            (hint,) = (option for option in get_args(hint) if option is not type(None))
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            values[name] = _built(hint, value)
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
