"""How much of a training step is convolution at the speed that this machine convolves with nothing around it.

The peak is measured, not looked up: every convolution of the network, at the step's own shapes, type and
memory format, forward and backward, by itself. The step is a whole one of the training loop: gather,
augmentation, normalisation, forward, loss, backward, optimiser.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.contract import AugmentationConfig, ModelConfig, TrainingConfig
from workloads.losses.logitnorm import LogitNorm
from workloads.models.build import build_model
from workloads.training.batches import Batches, Normaliser
from workloads.training.engine import Engine
from workloads.training.numerics import reproducible

CLASSES = 10
MEAN, STD = (0.5,) * 3, (0.25,) * 3
STEPS = 2
"""Of a round; the draws of an epoch are spread over more steps in a real one, so this is the worse case."""


@dataclass(frozen=True)
class Convolution:
    """One shape."""

    images: tuple[int, ...]
    """[batch, channels, height, width] of what comes in."""
    weight: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    first: bool
    """Nothing asks for the gradient of the pixels."""

    @property
    def operations(self) -> int:
        """Floating-point operations, forward and backward; a multiply-accumulate is two."""
        height, width = (
            (size + 2 * p - d * (k - 1) - 1) // s + 1
            for size, p, d, k, s in zip(
                self.images[2:], self.padding, self.dilation, self.weight[2:], self.stride, strict=True
            )
        )
        per_pixel = self.weight[0] * self.weight[1] * self.weight[2] * self.weight[3]
        return 2 * per_pixel * self.images[0] * height * width * (2 if self.first else 3)


@dataclass(frozen=True)
class Round:
    """Seconds a step."""

    step: float
    convolutions: float
    """All of them, one by one."""
    step_rate: float
    """Floating-point operations of the convolutions, a second of the step."""
    best_rate: float
    """Of the fastest of the shapes by itself."""

    @property
    def share(self) -> float:
        """Of the peak at the same shapes."""
        return self.convolutions / self.step

    @property
    def share_of_best(self) -> float:
        """Of the rate of the fastest shape, as if all could run at it."""
        return self.step_rate / self.best_rate


def measure(
    model: ModelConfig, precision: str, batch: int, rounds: int, threads: int, device: torch.device
) -> list[Round]:
    """Step and convolutions in turn."""
    with reproducible(device, threads):
        engine = _engine(model, precision, batch, device)
        shapes = convolutions(engine.model, batch, device)
        kind = torch.bfloat16 if precision == "bf16" else torch.float32
        alone = {shape: _alone(shape, kind, device) for shape in shapes}
        engine.train_epoch()
        for step in alone.values():
            _seconds(step, device)
        return [_round(engine, shapes, alone, device) for _ in range(rounds)]


def convolutions(model: nn.Module, batch: int, device: torch.device) -> Counter[Convolution]:
    """Those of one step on 32x32 colour images, with how often each shape occurs."""
    found: Counter[Convolution] = Counter()

    def note(layer: nn.Module, inputs: Sequence[Tensor], _: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        assert not isinstance(layer.padding, str)
        pixels = inputs[0]
        found[
            Convolution(
                tuple(pixels.shape),
                tuple(layer.weight.shape),
                tuple(layer.stride),
                tuple(layer.padding),
                tuple(layer.dilation),
                not found,
            )
        ] += 1

    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        model(torch.zeros(batch, 3, 32, 32, device=device))
    for hook in hooks:
        hook.remove()
    return found


def _engine(model: ModelConfig, precision: str, batch: int, device: torch.device) -> Engine:
    config = TrainingConfig(
        epochs=1000,
        batch_size=batch,
        augmentation=AugmentationConfig(flip=True, crop=4),
        precision="bf16" if precision == "bf16" else "float32",
    )
    torch.manual_seed(0)
    images = torch.randint(0, 256, (STEPS * batch, 3, 32, 32), dtype=torch.uint8, device=device)
    labels = torch.randint(0, CLASSES, (STEPS * batch,), device=device)
    network = build_model(model, (3, 32, 32), CLASSES)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = Batches(images, labels, CLASSES, config, 0)
    return Engine(network, LogitNorm(), batches, Normaliser(MEAN, STD, device), config, 0)


def _alone(shape: Convolution, kind: torch.dtype, device: torch.device) -> Callable[[], None]:
    def tensor(size: Sequence[int]) -> Tensor:
        made = torch.randn(*size, device=device).to(kind)
        return made.contiguous(memory_format=torch.channels_last)

    images, weight = tensor(shape.images), tensor(shape.weight).requires_grad_()
    images.requires_grad_(not shape.first)
    settings = (None, shape.stride, shape.padding, shape.dilation)  # None: no bias
    gradient = torch.randn_like(F.conv2d(images, weight, *settings))
    wanted = [t for t in (images, weight) if t.requires_grad]

    def step() -> None:
        torch.autograd.grad(F.conv2d(images, weight, *settings), wanted, gradient)

    return step


def _round(
    engine: Engine,
    shapes: Counter[Convolution],
    alone: dict[Convolution, Callable[[], None]],
    device: torch.device,
) -> Round:
    step = _seconds(engine.train_epoch, device) / STEPS
    seconds = {shape: _seconds(run, device) for shape, run in alone.items()}
    operations = sum(shape.operations * count for shape, count in shapes.items())
    return Round(
        step,
        sum(seconds[shape] * count for shape, count in shapes.items()),
        operations / step,
        max(shape.operations / seconds[shape] for shape in shapes),
    )


def _seconds(action: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
