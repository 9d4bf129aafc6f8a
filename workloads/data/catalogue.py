"""The catalogue of data sources: plain data, read by ``validate``, ``plan`` and ``list`` at once.

Facts of every entry, as published: ``num_classes``, ``num_train`` and ``num_test`` (all classes),
``image_channels``, ``image_height``, ``image_width``, ``class_counts`` and ``test_counts`` (images of each
class, train and test together, and in the test part alone; with commas), and the names of the usual OOD test
sets, ``near_ood`` and ``far_ood`` (with commas). Any other source may be an OOD set too; see
:func:`workloads.data.names.ood_problem`. Where they are published: ``mean`` and ``std`` of each channel,
pixels in [0, 1]. ``fetch`` names the torchvision data set whose files, addresses and checksums are those of
the source; ``get`` says how to come by the files without it. A source without a training part is an OOD set
only, and one without labels has ``num_classes`` 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from workloads.catalogue import Entry, Value

_LOADER = "workloads.data.location:find"
_FAR = "mnist,svhn,textures,places365"
_ODIN = "Liang et al. 2018 (ODIN)"


def _counts(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def _images(
    name: str,
    meaning: str,
    source: str,
    *,
    shape: tuple[int, int, int],
    train: Sequence[int] = (),
    test: Sequence[int] = (),
    near: str = "",
    far: str = "",
    get: str,
    **facts: Value,
) -> Entry:
    """An entry for a set of image files; ``train`` and ``test`` count the images of each class."""
    channels, height, width = shape
    counts: dict[str, Value] = {
        "num_classes": len(test),
        "num_train": sum(train),
        "num_test": sum(test),
        "image_channels": channels,
        "image_height": height,
        "image_width": width,
        "class_counts": _counts([a + b for a, b in zip(train, test, strict=True)] if train else test),
        "test_counts": _counts(test),
        "near_ood": near,
        "far_ood": far,
        "get": get,
    }
    return Entry(name=name, path=_LOADER, meaning=meaning, source=source, facts=counts | facts)


def _unlabelled(name: str, meaning: str, size: int, get: str) -> Entry:
    return _images(
        name, meaning, _ODIN, shape=(3, 32, 32), get=get, num_test=size, class_counts="", test_counts=""
    )


_DIGITS = Entry(
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
        "test_counts": "59,61,59,61,60,61,60,60,58,60",
        "test_fraction": 1 / 3,
        "near_ood": "held_out",
        "far_ood": "photo_patches,uniform,pixel_permuted,phase_randomised,blobs",
    },
)

SOURCES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        _DIGITS,
        _images(
            "cifar10",
            "60,000 photographs of 32x32 pixels in ten classes",
            "Krizhevsky 2009",
            shape=(3, 32, 32),
            train=[5000] * 10,
            test=[1000] * 10,
            near="cifar100,tinyimagenet",
            far=f"{_FAR},lsun_c,lsun_r,isun",
            mean="0.4914,0.4822,0.4465",
            std="0.2470,0.2435,0.2616",
            fetch="CIFAR10",
            get="the folder cifar-10-batches-py out of www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
        _images(
            "cifar100",
            "60,000 photographs of 32x32 pixels in a hundred classes (fine labels)",
            "Krizhevsky 2009",
            shape=(3, 32, 32),
            train=[500] * 100,
            test=[100] * 100,
            near="cifar10,tinyimagenet",
            far=f"{_FAR},lsun_c,lsun_r,isun",
            mean="0.5071,0.4865,0.4409",
            std="0.2673,0.2564,0.2762",
            fetch="CIFAR100",
            get="the folder cifar-100-python out of www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        ),
        _images(
            "mnist",
            "70,000 handwritten digits of 28x28 pixels",
            "LeCun et al. 1998",
            shape=(1, 28, 28),
            train=[5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            test=[980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
            near="fashionmnist,kmnist,emnist",
            far="svhn,textures,places365,cifar10",
            mean="0.1307",
            std="0.3081",
            fetch="MNIST",
            get="the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-...",
        ),
        _images(
            "fashionmnist",
            "70,000 pictures of clothing, grey, 28x28 pixels, in ten classes",
            "Xiao et al. 2017",
            shape=(1, 28, 28),
            train=[6000] * 10,
            test=[1000] * 10,
            near="mnist,kmnist,emnist",
            far="svhn,textures,places365,cifar10",
            mean="0.2860",
            std="0.3530",
            fetch="FashionMNIST",
            get="the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-...",
        ),
        _images(
            "kmnist",
            "70,000 cursive Japanese characters (Kuzushiji) of 28x28 pixels in ten classes",
            "Clanuwat et al. 2018",
            shape=(1, 28, 28),
            train=[6000] * 10,
            test=[1000] * 10,
            near="mnist,fashionmnist,emnist",
            far="svhn,textures,places365,cifar10",
            fetch="KMNIST",
            get="the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-...",
        ),
        _images(
            "emnist",
            "131,600 handwritten letters and digits of 28x28 pixels in 47 classes (the balanced split)",
            "Cohen et al. 2017",
            shape=(1, 28, 28),
            train=[2400] * 47,
            test=[400] * 47,
            near="mnist,fashionmnist,kmnist",
            far="svhn,textures,places365,cifar10",
            fetch="EMNIST",
            get="the files emnist-balanced-*-ubyte.gz out of biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
        ),
        _images(
            "svhn",
            "99,289 house-number digits of 32x32 pixels (without the extra part)",
            "Netzer et al. 2011; for non-commercial use",
            shape=(3, 32, 32),
            train=[4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659],
            test=[1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595],
            near="mnist",
            far="cifar10,textures,places365",
            mean="0.4377,0.4438,0.4728",
            std="0.1980,0.2010,0.1970",
            fetch="SVHN",
            get="train_32x32.mat and test_32x32.mat, ufldl.stanford.edu/housenumbers",
        ),
        _images(
            "textures",
            "5,640 photographs of textures (DTD, split 1, train and val for training), of many sizes",
            "Cimpoi et al. 2014",
            shape=(3, 32, 32),
            train=[80] * 47,
            test=[40] * 47,
            near="places365",
            far="mnist,svhn",
            fetch="DTD",
            get="the folder dtd out of dtd-r1.0.1.tar.gz, www.robots.ox.ac.uk/~vgg/data/dtd, as dtd/dtd",
        ),
        _images(
            "stl10",
            "13,000 labelled photographs of 96x96 pixels in ten classes",
            "Coates et al. 2011",
            shape=(3, 96, 96),
            train=[500] * 10,
            test=[800] * 10,
            near="tinyimagenet,cifar100",
            far=_FAR,
            fetch="STL10",
            get="the folder stl10_binary out of stl10_binary.tar.gz, cs.stanford.edu/~acoates/stl10",
        ),
        _images(
            "places365",
            "36,500 photographs of scenes, 256x256 pixels (the validation part; an OOD set only)",
            "Zhou et al. 2017",
            shape=(3, 256, 256),
            test=[100] * 365,
            fetch="Places365",
            get="the folder val_256 out of val_256.tar, places2.csail.mit.edu",
        ),
        _images(
            "tinyimagenet",
            "110,000 photographs of 64x64 pixels in 200 classes; the validation part is the test part",
            "Le and Yang 2015 (Stanford CS 231N)",
            shape=(3, 64, 64),
            train=[500] * 200,
            test=[50] * 200,
            near="textures",
            far="mnist,svhn",
            get="the folders train and val out of cs231n.stanford.edu/tiny-imagenet-200.zip",
        ),
        _unlabelled(
            "lsun_c",
            "10,000 photographs of scenes, cropped at random (LSUN-C; an OOD set only)",
            10000,
            "the images out of LSUN.tar.gz, linked from github.com/facebookresearch/odin",
        ),
        _unlabelled(
            "lsun_r",
            "10,000 photographs of scenes, made small (LSUN-R; an OOD set only)",
            10000,
            "the images out of LSUN_resize.tar.gz, linked from github.com/facebookresearch/odin",
        ),
        _unlabelled(
            "isun",
            "8,925 photographs of scenes, made small (iSUN; an OOD set only)",
            8925,
            "the images out of iSUN.tar.gz, linked from github.com/facebookresearch/odin",
        ),
    )
}
