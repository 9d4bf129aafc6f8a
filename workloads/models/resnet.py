"""ResNet-18 and ResNet-34, for images of 32x32 up to those of ImageNet."""

from __future__ import annotations

from torch import Tensor, nn

from workloads.models.layers import GlobalAverage, convolution, normalised
from workloads.models.rules import fits, one_of

STEMS = {"cifar": 1, "deep": 4, "imagenet": 4}
"""By how much each stem reduces the image."""
OUTPUT_STRIDES = (4, 8, 16, 32)


class ResNet(nn.Sequential):
    """A stem, four stages of basic blocks with 64, 128, 256 and 512 channels, average.

    [batch, C, H, W] to [batch, 512, H / output_stride, W / output_stride] and to [batch, 512]. Stages two to
    four halve the image until it is reduced by ``output_stride``; from there on they dilate their
    convolutions instead, which changes neither their number nor their weights.

    Initialisation: convolutions He normal (fan out, gain of ReLU); batch norm 1 and 0.

    Args:
        name: of the model, for messages.
        image_shape: channels, height, width; height and width at least ``output_stride``.
        blocks: of each stage.
        stem: ``cifar``, a 3x3 convolution of stride 1; ``deep``, three 3x3 convolutions with 32, 32 and 64
            channels, the first of stride 2, and a max-pool; ``imagenet``, a 7x7 convolution of stride 2 and a
            max-pool.
        output_stride: by how much the last stage's map is smaller than the image: 4 or 8 with the cifar stem,
            4, 8, 16 or 32 with the others.
    Raises: ValueError where a parameter or the images do not fit.
    Source: He et al. 2016, table 1; the cifar stem and its sizes as in kuangliu/pytorch-cifar; the deep stem
        and the dilation as in timm, which ArcGrad's authors use (erow/vitookit).
    Differs from source: kuangliu/pytorch-cifar starts the convolutions uniform with a sixth of the variance
        of He's fan in; timm starts the last batch norm of a block at 0.
    """

    def __init__(
        self,
        name: str,
        image_shape: tuple[int, int, int],
        blocks: tuple[int, int, int, int],
        stem: str,
        output_stride: int,
    ) -> None:
        one_of(name, "stem", stem, STEMS)
        reduced = STEMS[stem]
        reachable = [stride for stride in OUTPUT_STRIDES if stride <= 8 * reduced]
        one_of(name, "output_stride", output_stride, reachable, f" with the {stem} stem")
        fits(name, image_shape, output_stride)
        layers = _stem(stem, image_shape[0])
        channels, dilation = 64, 1
        for stage, count in enumerate(blocks):
            width, stride, before = 64 * 2**stage, 1, dilation
            if stage > 0 and reduced < output_stride:
                stride, reduced = 2, 2 * reduced
            elif stage > 0:
                dilation *= 2
            # The first convolution of a stage reads the grid of the stage before.
            layers.append(BasicBlock(channels, width, stride, before, dilation))
            layers += [BasicBlock(width, width, 1, dilation, dilation) for _ in range(count - 1)]
            channels = width
        super().__init__(*layers, GlobalAverage())
        self.features = channels


class ResNet18(ResNet):
    """ResNet with 2, 2, 2 and 2 blocks; see :class:`ResNet`."""

    def __init__(
        self, image_shape: tuple[int, int, int], stem: str = "cifar", output_stride: int = 8
    ) -> None:
        super().__init__("resnet18", image_shape, (2, 2, 2, 2), stem, output_stride)


class ResNet34(ResNet):
    """ResNet with 3, 4, 6 and 3 blocks; see :class:`ResNet`."""

    def __init__(
        self, image_shape: tuple[int, int, int], stem: str = "cifar", output_stride: int = 8
    ) -> None:
        super().__init__("resnet34", image_shape, (3, 4, 6, 3), stem, output_stride)


class BasicBlock(nn.Module):
    """Convolution, batch norm, ReLU, convolution, batch norm; what came in is added; ReLU.

    Where the shape changes, a 1x1 convolution of what came in, batch-normalised, is added instead.
    """

    def __init__(
        self, channels: int, width: int, stride: int = 1, first_dilation: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *normalised(convolution(channels, width, stride=stride, dilation=first_dilation)),
            convolution(width, width, dilation=dilation),
            nn.BatchNorm2d(width),
        )
        self.shortcut = None
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(convolution(channels, width, 1, stride), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(x)
        residual: Tensor = self.residual(x)
        return residual.add_(shortcut).relu_()


def _stem(stem: str, channels: int) -> list[nn.Module]:
    if stem == "cifar":
        return normalised(convolution(channels, 64))
    pool = nn.MaxPool2d(3, 2, padding=1)
    if stem == "imagenet":
        return [*normalised(convolution(channels, 64, 7, 2)), pool]
    first, second, third = convolution(channels, 32, stride=2), convolution(32, 32), convolution(32, 64)
    return [*normalised(first), *normalised(second), *normalised(third), pool]
