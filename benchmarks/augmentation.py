"""Images a second through crop, flip and normalisation, on one thread of the CPU.

    python benchmarks/augmentation.py [--images 2560] [--batch 128] [--rounds 20]

Five ways over the same 32x32 colour images, zero padding of 4, flip with probability 1/2:

* ours: ``workloads.training.augmentation``, its draws for the whole epoch included;
* windows: an unfolded view of the padded batch, indexed image by image, then torch.where for the flip;
* mask loop: a mask for each row shift, then for each column shift (as airbench crops), then torch.where;
* torchvision v1 and v2: transforms of one PIL image after the other, then torch.stack.

The first three take the same draws and must give the same images. In every round the ways run one after the
other, in an order that turns round by round. Printed are medians and quartiles over the rounds; a ratio is
ours over the other way in the same round. Where the time of ours goes is measured on its own, warm.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2

from workloads.contract import AugmentationConfig
from workloads.training.augmentation import Draws, augment, draw
from workloads.training.batches import Normaliser

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PADDING = 4
CONFIG = AugmentationConfig(flip=True, crop=PADDING)
Way = Callable[[], Iterator[Tensor]]
"""An epoch: batches float32 [batch, 3, 32, 32], normalised."""
OtherCrop = Callable[[Tensor, Tensor], Tensor]
"""Padded images uint8 [batch, 3, 40, 40] and shifts int64 [batch, 2] to uint8 [batch, 3, 32, 32]."""


def windows(padded: Tensor, shifts: Tensor) -> Tensor:
    size = padded.shape[2] - 2 * PADDING
    view = padded.unfold(2, size, 1).unfold(3, size, 1)
    return view[torch.arange(len(padded)), :, shifts[:, 0], shifts[:, 1]]


def mask_loop(padded: Tensor, shifts: Tensor) -> Tensor:
    size = padded.shape[2] - 2 * PADDING
    rows = padded.new_empty(*padded.shape[:2], size, padded.shape[3])
    for shift in range(2 * PADDING + 1):
        mask = shifts[:, 0] == shift
        rows[mask] = padded[mask, :, shift : shift + size]
    cropped = padded.new_empty(*padded.shape[:2], size, size)
    for shift in range(2 * PADDING + 1):
        mask = shifts[:, 1] == shift
        cropped[mask] = rows[mask, :, :, shift : shift + size]
    return cropped


def by_tensors(images: Tensor, batch: int, step: Callable[[Tensor, Draws], Tensor]) -> Way:
    normalise = Normaliser(MEAN, STD, torch.device("cpu"))
    channels, height, width = images.shape[1:]

    def epoch() -> Iterator[Tensor]:
        draws = draw(CONFIG, 0, 1, torch.arange(len(images)), (channels, height, width))
        for start in range(0, len(images), batch):
            end = start + batch
            yield normalise(step(images[start:end], draws[start:end]))

    return epoch


def by_other_crop(crop: OtherCrop) -> Callable[[Tensor, Draws], Tensor]:
    def step(images: Tensor, draws: Draws) -> Tensor:
        assert draws.shifts is not None
        assert draws.flips is not None
        cropped = crop(F.pad(images, [PADDING] * 4), draws.shifts)
        return torch.where(draws.flips[:, None, None, None], cropped.flip(3), cropped)

    return step


def by_image(images: Tensor, batch: int, transform: Callable[[Image.Image], Tensor]) -> Way:
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]

    def epoch() -> Iterator[Tensor]:
        for start in range(0, len(pictures), batch):
            yield torch.stack([transform(picture) for picture in pictures[start : start + batch]])

    return epoch


def torchvision_v1(size: int) -> Callable[[Image.Image], Tensor]:
    transform: Callable[[Image.Image], Tensor] = v1.Compose(
        [
            v1.RandomCrop(size, padding=PADDING),
            v1.RandomHorizontalFlip(),
            v1.ToTensor(),
            v1.Normalize(MEAN, STD),
        ]
    )
    return transform


def torchvision_v2(size: int) -> Callable[[Image.Image], Tensor]:
    transform: Callable[[Image.Image], Tensor] = v2.Compose(
        [
            v2.RandomCrop(size, padding=PADDING),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return transform


def seconds(way: Way) -> float:
    """Of one epoch."""
    start = time.perf_counter()
    for _ in way():
        pass
    return time.perf_counter() - start


def measure(ways: Mapping[str, Way], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for way in ways.values():
        seconds(way)
    for _ in range(rounds):
        for name in order:
            times[name].append(seconds(ways[name]))
        order = order[1:] + order[:1]
    return times


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def microseconds(step: Callable[[], object], repeats: int = 200) -> float:
    """The median of a step's times, warm."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2560, help="in an epoch")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args(words)
    for name, least in (("images", 1), ("batch", 1), ("rounds", 2)):
        if getattr(arguments, name) < least:
            parser.error(f"--{name} must be at least {least}; got {getattr(arguments, name)}")
    return arguments


def main(words: Sequence[str]) -> int:
    arguments = parse(words)
    torch.set_num_threads(1)
    size, batch = 32, arguments.batch
    images = torch.randint(256, (arguments.images, 3, size, size), dtype=torch.uint8)
    ways = {
        "ours": by_tensors(images, batch, lambda part, draws: augment(part, draws, CONFIG)),
        "windows": by_tensors(images, batch, by_other_crop(windows)),
        "mask loop": by_tensors(images, batch, by_other_crop(mask_loop)),
        "torchvision v1": by_image(images, batch, torchvision_v1(size)),
        "torchvision v2": by_image(images, batch, torchvision_v2(size)),
    }
    for name in ("windows", "mask loop"):
        if not all(torch.equal(a, b) for a, b in zip(ways["ours"](), ways[name](), strict=True)):
            print(f"{name} gives other images than ours", file=sys.stderr)
            return 1
    times = measure(ways, arguments.rounds)
    print(f"{'way':<16}{'images/s':>10}{'quartiles':>20}{'ours is faster by':>20}{'quartiles':>16}")
    for name, own in times.items():
        low, rate, high = quartiles([arguments.images / t for t in own])
        ratios = quartiles([t / ours for t, ours in zip(own, times["ours"], strict=True)])
        print(
            f"{name:<16}{rate:>10.0f}{f'{low:.0f}..{high:.0f}':>20}"
            f"{ratios[1]:>20.2f}{f'{ratios[0]:.2f}..{ratios[2]:.2f}':>16}"
        )
    part = images[:batch]
    positions = torch.arange(50_000)
    draws = draw(CONFIG, 0, 1, positions[: len(part)], (3, size, size))
    normalise = Normaliser(MEAN, STD, torch.device("cpu"))
    alone = microseconds(lambda: augment(part, draws, CONFIG))
    print(f"\ncrop and flip of a batch: {alone:.0f} us")
    for name, other in (("windows", by_other_crop(windows)), ("mask loop", by_other_crop(mask_loop))):
        taken = microseconds(lambda other=other: other(part, draws))  # type: ignore[misc]
        print(f"  {name}: {taken:.0f} us ({taken / alone:.1f} times as long)")
    print(f"normalisation of a batch: {microseconds(lambda: normalise(part)):.0f} us")
    drawing = microseconds(lambda: draw(CONFIG, 0, 1, positions, (3, size, size)), repeats=20)
    print(f"draws of 50000 images: {drawing / 1e3:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
