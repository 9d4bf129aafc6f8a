"""Images as training scripts load them: one PIL image after the other, in a DataLoader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

PADDING = 4
TEST_BATCH = 200


class PilImages(Dataset[tuple[Tensor, int]]):
    """As ``torchvision.datasets.CIFAR10``: arrays in memory, made a PIL image and transformed one by one.

    Args:
        images: uint8 [N, height, width, channels].
        labels: int64 [N].
    """

    def __init__(self, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], transform: Any) -> None:
        self.images = images
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Material:
    """The arrays of one benchmark, with their loaders."""

    def __init__(self, folder: Path, workers: int, batch_size: int, device: str) -> None:
        self.folder = folder
        statistics = np.load(folder / "statistics.npy")
        self.mean, self.std = (tuple(float(value) for value in row) for row in statistics)
        self.settings: dict[str, Any] = {"num_workers": workers, "pin_memory": device != "cpu"}
        self.batch_size = batch_size

    def train(self) -> DataLoader[tuple[Tensor, int]]:
        """Augmented and shuffled."""
        data = self._data("train", train_transform(self.mean, self.std))
        return DataLoader(data, batch_size=self.batch_size, shuffle=True, **self.settings)

    def test(self, name: str) -> DataLoader[tuple[Tensor, int]]:
        """One set in order: ``validation``, ``test``, ``noise`` or ``far``."""
        return DataLoader(
            self._data(name, test_transform(self.mean, self.std)), batch_size=TEST_BATCH, **self.settings
        )

    def classes(self) -> int:
        return int(np.load(self.folder / "train_labels.npy").max()) + 1

    def _data(self, name: str, transform: Any) -> PilImages:
        images = np.load(self.folder / f"{name}.npy")
        return PilImages(images, np.load(self.folder / f"{name}_labels.npy"), transform)


def train_transform(mean: Sequence[float], std: Sequence[float]) -> Any:
    return transforms.Compose(
        [
            transforms.RandomCrop(32, padding=PADDING),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def test_transform(mean: Sequence[float], std: Sequence[float]) -> Any:
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])


def seed_everything(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)
