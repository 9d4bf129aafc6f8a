"""The catalogue of data sources: plain data, read by ``validate``, ``plan`` and ``list`` at once.

Facts of every entry: ``num_classes``, ``num_train`` and ``num_test`` (all classes), ``image_channels``,
``image_height``, ``image_width``, ``class_counts`` (images of each class, train and test together, with
commas), ``test_fraction`` (share of each class that is the fixed test part), and the names of the OOD test
sets, ``near_ood`` and ``far_ood`` (with commas).
"""

from __future__ import annotations

from workloads.catalogue import Entry

SOURCES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="digits",
            path="workloads.data.digits:load",
            meaning="1,797 real handwritten digits of 8x8 pixels, bundled with scikit-learn (no download)",
            source="UCI Optical Recognition of Handwritten Digits, test part; sklearn.datasets.load_digits",
            facts={
                "num_classes": 10,
                "num_train": 1198,
                "num_test": 599,
                "image_channels": 1,
                "image_height": 8,
                "image_width": 8,
                "class_counts": "178,182,177,183,181,182,181,179,174,180",
                "test_fraction": 1 / 3,
                "near_ood": "held_out",
                "far_ood": "photo_patches,uniform,pixel_permuted,phase_randomised,blobs",
            },
        ),
        Entry(
            name="cifar10",
            path=None,
            meaning="60,000 photographs of 32x32 pixels in ten classes",
            source="Krizhevsky 2009",
            facts={
                "num_classes": 10,
                "num_train": 50000,
                "num_test": 10000,
                "image_channels": 3,
                "image_height": 32,
                "image_width": 32,
                "class_counts": ",".join(["6000"] * 10),
                "test_fraction": 1 / 6,
                "near_ood": "cifar100,tinyimagenet",
                "far_ood": "mnist,svhn,textures,places365,lsun_c,lsun_r,isun",
            },
            missing="CIFAR-10 can be named, validated and planned; "
            "reading it comes with the data release of this project",
        ),
    )
}
