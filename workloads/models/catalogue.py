"""The models that a study can name.

Facts of an entry, at its default parameters: ``parameters`` (trainable) and ``macs`` (multiply-accumulates
of convolutions and head for one image, forward), for ``num_classes`` classes and images of ``image_shape``.
"""

from __future__ import annotations

from workloads.catalogue import Entry, Parameter

MODELS: dict[str, Entry] = {
    "small_cnn_8x8": Entry(
        name="small_cnn_8x8",
        path="workloads.models.small_cnn:SmallCNN",
        meaning="three convolutions with batch norm for images of about 8x8; a second a run on one CPU core",
        source="this project",
        parameters={
            "width": Parameter(
                kind="int",
                default=16,
                meaning="channels of the first convolution (the others have 2 and 4 times as many)",
                low=1,
                unit="channels",
            ),
        },
        facts={"parameters": 24058, "macs": 599680, "num_classes": 10, "image_shape": "1x8x8"},
    ),
    "wrn_40_2": Entry(
        name="wrn_40_2",
        path=None,
        meaning="Wide ResNet of depth 40 and widening factor 2",
        source="Zagoruyko and Komodakis 2016",
        parameters={
            "dropout": Parameter(
                kind="float",
                default=0.3,
                meaning="dropout probability between the two convolutions of a block",
                low=0.0,
                high=1.0,
            ),
        },
        facts={"parameters": 2_240_000, "macs": 330_000_000, "num_classes": 10, "image_shape": "3x32x32"},
        missing="The architecture comes in a later version; it can be validated and planned, not trained.",
    ),
}
