"""The models that a study can name.

Facts of an entry, at its default parameters: ``parameters`` (trainable) and ``macs`` (multiply-accumulates
of convolutions, linear layers and attention for one image, forward), with a linear head for ``num_classes``
classes and for images of ``image_shape``.
"""

from __future__ import annotations

from workloads.catalogue import Entry, Parameter, Value

SMALL = "Small networks"
RESIDUAL = "Residual networks"
WIDE = "Wide residual networks"
OTHER = "Dense networks and transformers"


def _facts(parameters: int, macs: int, image_shape: str = "3x32x32") -> dict[str, Value]:
    return {"parameters": parameters, "macs": macs, "num_classes": 10, "image_shape": image_shape}


def _number(default: int, meaning: str, low: int = 1, unit: str = "dimensionless") -> Parameter:
    return Parameter("int", default, meaning, low=low, unit=unit)


def _dropout(default: float, where: str) -> Parameter:
    return Parameter("float", default, f"probability that dropout zeroes {where}", low=0.0, high=1.0)


def _width(default: int) -> Parameter:
    meaning = "channels of the first convolution (later ones have 2 and 4 times as many)"
    return _number(default, meaning, unit="channels")


def _wide(name: str, depth: int, width: int, dropout: float, facts: dict[str, Value]) -> Entry:
    return Entry(
        name=name,
        path=f"workloads.models.wrn:{name}",
        meaning=f"Wide ResNet of depth {depth} and widening factor {width}",
        source="Zagoruyko and Komodakis 2016",
        parameters={
            "depth": _number(depth, "convolutions, with those of shortcuts; 6n + 4", low=10, unit="layers"),
            "width": _number(width, "widening factor"),
            "dropout": _dropout(dropout, "an activation between the two convolutions of a block"),
        },
        facts=facts,
        family=WIDE,
    )


def _resnet(layers: int, facts: dict[str, Value]) -> Entry:
    return Entry(
        name=f"resnet{layers}",
        path=f"workloads.models.resnet:ResNet{layers}",
        meaning=f"ResNet-{layers}, by default with the 3x3 stem without pooling that CIFAR needs",
        source="He et al. 2016, table 1; stem for CIFAR as in kuangliu/pytorch-cifar, the others as in timm",
        parameters={
            "stem": Parameter(
                "choice",
                "cifar",
                "3x3; three times 3x3, then pooling; 7x7, then pooling",
                choices=("cifar", "deep", "imagenet"),
            ),
            "output_stride": Parameter(
                "choice",
                8,
                "how much smaller the last map is than the image (cifar: 4 or 8); dilation replaces strides",
                choices=(4, 8, 16, 32),
                unit="pixels",
            ),
        },
        facts=facts,
        family=RESIDUAL,
    )


ENTRIES = (
    Entry(
        name="small_cnn_8x8",
        path="workloads.models.small_cnn:SmallCNN",
        meaning="three convolutions with batch norm for images of about 8x8; a second a run on one CPU core",
        source="this project",
        parameters={"width": _width(16)},
        facts=_facts(24_058, 599_680, "1x8x8"),
        family=SMALL,
    ),
    Entry(
        name="small_cnn_28x28",
        path="workloads.models.small_cnn:SmallCNN28",
        meaning="three convolutions with pooling and batch norm for images of about 28x28",
        source="this project",
        parameters={"width": _width(16)},
        facts=_facts(24_058, 1_919_872, "1x28x28"),
        family=SMALL,
    ),
    Entry(
        name="small_cnn_32x32",
        path="workloads.models.small_cnn:SmallCNN32",
        meaning="five convolutions with pooling and batch norm for images of about 32x32",
        source="this project",
        parameters={"width": _width(32)},
        facts=_facts(279_466, 15_041_792),
        family=SMALL,
    ),
    Entry(
        name="mlp",
        path="workloads.models.mlp:MLP",
        meaning="multi-layer perceptron with ReLU",
        source="standard",
        parameters={
            "hidden": _number(256, "width of every layer", unit="units"),
            "depth": _number(2, "layers before the head", unit="layers"),
            "dropout": _dropout(0.0, "an activation after each layer"),
        },
        facts=_facts(269_322, 268_800, "1x28x28"),
        family=SMALL,
    ),
    _resnet(18, _facts(11_173_962, 555_422_720)),
    _resnet(34, _facts(21_282_122, 1_159_402_496)),
    Entry(
        name="resnet32",
        path="workloads.models.resnet32:ResNet32",
        meaning="residual network of 32 layers for CIFAR, with shortcuts without weights",
        source="He et al. 2016, section 4.2; public code of LDAM's authors",
        facts=_facts(464_154, 68_862_592),
        family=RESIDUAL,
    ),
    _wide("wrn_40_2", 40, 2, 0.3, _facts(2_243_546, 327_599_360)),
    _wide("wrn_16_2", 16, 2, 0.0, _facts(691_674, 101_106_944)),
    _wide("wrn_22_10", 22, 10, 0.0, _facts(26_797_914, 3_827_751_168)),
    _wide("wrn_28_10", 28, 10, 0.0, _facts(36_479_194, 5_243_328_768)),
    _wide("wrn_40_4", 40, 4, 0.0, _facts(8_949_210, 1_298_582_016)),
    Entry(
        name="densenet_bc_100_12",
        path="workloads.models.densenet:DenseNetBC",
        meaning="DenseNet with bottleneck and compression, of depth 100 and growth 12",
        source="Huang et al. 2017, table 2",
        parameters={
            "depth": _number(100, "layers with weights; 6n + 4", low=10, unit="layers"),
            "growth": _number(12, "channels that a layer appends", unit="channels"),
            "dropout": _dropout(0.0, "an activation after each convolution of a layer"),
        },
        facts=_facts(769_162, 287_929_692),
        family=OTHER,
    ),
    Entry(
        name="vit_tiny",
        path="workloads.models.vit:VisionTransformer",
        meaning="vision transformer of 192 features, 12 blocks and 3 heads, read at its class token",
        source="Dosovitskiy et al. 2021; size of Touvron et al. 2021 (DeiT); patch of ArcGrad's recipe",
        parameters={
            "patch": _number(2, "height and width of a patch; divides the image's", unit="pixels"),
            "embed": _number(192, "width of a token; a multiple of heads", unit="features"),
            "depth": _number(12, "encoder blocks", unit="blocks"),
            "heads": _number(3, "heads of the attention"),
            "dropout": _dropout(0.0, "an activation of tokens, attention's output or MLP"),
        },
        facts=_facts(5_392_714, 1_669_208_448),
        family=OTHER,
    ),
)

MODELS: dict[str, Entry] = {entry.name: entry for entry in ENTRIES}
