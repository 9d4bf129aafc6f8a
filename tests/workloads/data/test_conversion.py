"""One image decoded and converted."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.workloads.data.making import encoded, pictures
from workloads.data.conversion import Raw, convert, described


def test_an_image_that_fits_keeps_every_pixel() -> None:
    (image,) = pictures(1, (3, 5, 7))
    pixels, raw = convert(encoded(image), 3, (5, 7))
    np.testing.assert_array_equal(pixels, image)
    assert raw == Raw(3, 5, 7, "png")


def test_plain_pixels_are_taken_as_they_are() -> None:
    (image,) = pictures(1, (3, 5, 7))
    pixels, raw = convert(image.transpose(1, 2, 0), None, None)
    np.testing.assert_array_equal(pixels, image)
    assert raw == Raw(3, 5, 7, "raw")


def test_grey_becomes_colour_by_repetition() -> None:
    (image,) = pictures(1, (1, 6, 6))
    np.testing.assert_array_equal(convert(encoded(image), 3, None)[0], np.repeat(image, 3, axis=0))


def test_colour_becomes_grey_by_the_itu_601_luma() -> None:
    (image,) = pictures(1, (3, 16, 16))
    luma = np.tensordot([0.299, 0.587, 0.114], image, axes=1)
    # Rounded to whole grey levels, from weights of 16 bits: half a level and a little.
    assert np.abs(convert(encoded(image), 1, None)[0][0] - luma).max() < 0.51


def test_halving_averages_as_a_triangle_filter_does() -> None:
    row = np.array([0, 0, 0, 0, 240, 240, 240, 240], dtype=np.uint8)
    image = np.broadcast_to(row, (1, 8, 8))
    # PIL's antialiased triangle reaches two pixels to each side of an output pixel's centre: weights
    # 1, 3, 3, 1 (of 8). Beside the edge that is 240 / 8 = 30 and 240 * 7 / 8 = 210.
    assert convert(encoded(image), 1, (4, 4))[0][0, 0].tolist() == [0, 30, 210, 240]


def test_the_shorter_side_fits_and_the_centre_is_cut_out() -> None:
    image = np.zeros((1, 8, 24), dtype=np.uint8)
    image[:, :, 8:16] = 200
    pixels, _ = convert(encoded(image), 1, (8, 8))
    assert (pixels == 200).all()
    high = np.ascontiguousarray(image.transpose(0, 2, 1))
    assert (convert(encoded(high), 1, (8, 8))[0] == 200).all()


@pytest.mark.parametrize("size", [(32, 32), (16, 32), (48, 20), (7, 5)])
@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 300, 431), (1, 9, 8), (3, 33, 47)])
def test_every_size_comes_out_of_every_size(shape: tuple[int, int, int], size: tuple[int, int]) -> None:
    assert convert(encoded(pictures(1, shape)[0]), 3, size)[0].shape == (3, *size)


def test_a_flat_image_stays_flat_at_any_size() -> None:
    image = np.full((1, 13, 29), 131, dtype=np.uint8)
    assert (convert(encoded(image), 3, (32, 32))[0] == 131).all()


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "1", "CMYK"])
def test_other_modes_are_brought_to_grey_or_colour_without_a_warning(mode: str) -> None:
    out = io.BytesIO()
    form = "TIFF" if mode == "CMYK" else "PNG"
    options = {"transparency": 0} if mode == "P" else {}
    Image.new(mode, (4, 4)).save(out, form, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert convert(out.getvalue(), 3, (4, 4))[0].shape == (3, 4, 4)


def test_sixteen_bits_a_channel_are_refused() -> None:
    out = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(out, "PNG")
    with pytest.raises(ValueError, match="8 bits a channel; got mode I;16"):
        convert(out.getvalue(), 1, None)


@pytest.mark.parametrize(
    ("counts", "channels", "expected"),
    [
        ({Raw(3, 32, 32, "png"): 5}, 3, "none"),
        ({Raw(1, 28, 28, "png"): 5}, 3, "resize 28->32, grey_to_colour"),
        ({Raw(3, 32, 32, "png"): 5}, 1, "colour_to_grey"),
        ({Raw(3, 64, 64, "jpeg"): 5, Raw(1, 64, 64, "jpeg"): 2}, 3, "resize 64->32, grey_to_colour 2 of 7"),
        ({Raw(3, 300, 400, "jpeg"): 1}, 3, "resize 300x400->32"),
        ({Raw(3, 300, 400, "jpeg"): 1, Raw(3, 32, 32, "jpeg"): 1}, 3, "resize varied->32"),
    ],
)
def test_what_was_done_is_said_in_words(counts: dict[Raw, int], channels: int, expected: str) -> None:
    assert described(counts, channels, (32, 32)) == expected
