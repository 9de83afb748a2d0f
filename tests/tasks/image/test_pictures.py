import io
import math
import os
import random
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from flowerml.core.errors import InputError
from flowerml.data.archives.members import DEFAULT_LIMITS
from flowerml.tasks.image.encoder.augment import random_view
from flowerml.tasks.image.encoder.pictures import Transform, decode
from flowerml.tasks.image.reading import listing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TRANSFORM = Transform(resize=64, crop=48, interpolation="bilinear", mean=MEAN, std=STD)
AUGMENT = {"rotation": 30.0, "smallest_crop": 0.08, "flip": True}
ORANGE = (255, 128, 0)
SECTION = SimpleNamespace(limits=SimpleNamespace(pixels=10_000, of_archives=lambda: DEFAULT_LIMITS))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def file_bytes(picture: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(301, 199), (199, 301), (256, 256), (64, 90), (3, 2), (1, 1)])
def test_transform_equals_torchvision(interpolation, size):
    from torchvision import transforms

    ours = Transform(resize=64, crop=49, interpolation=interpolation, mean=MEAN, std=STD)
    theirs = transforms.Compose(
        [
            transforms.Resize(64, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(49),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    np.testing.assert_allclose(ours(noise(*size)), theirs(noise(*size)).numpy(), rtol=0, atol=1e-6)


def test_pixels_are_contiguous_float32():
    pixels = TRANSFORM(noise(90, 70))
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((3, 48, 48), np.float32, True)


def test_to_picture_undoes_the_transform():
    picture = noise(90, 70)
    np.testing.assert_array_equal(TRANSFORM.to_picture(TRANSFORM(picture)), TRANSFORM.resize_and_crop(picture))


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("L", (2, 2), 100), (100, 100, 100)),
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (Image.new("LA", (2, 2), (100, 255)), (100, 100, 100)),
        (Image.new("LA", (2, 2), (100, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (*ORANGE, 255)), ORANGE),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("RGB", (2, 2), ORANGE).quantize(4), ORANGE),
        (Image.new("I;16", (2, 2), 128 * 257), (128, 128, 128)),
        (Image.new("I;16", (2, 2), 65535), (255, 255, 255)),
    ],
)
def test_any_mode_becomes_rgb_on_white(picture, expected):
    decoded = decode(file_bytes(picture))
    assert decoded.mode == "RGB"
    assert decoded.getcolors() == [(4, expected)]


def test_transparent_palette_color():
    picture = Image.new("P", (2, 2), 1)
    picture.putpalette([0, 0, 0, *ORANGE])
    picture.putpixel((0, 0), 0)
    decoded = decode(file_bytes(picture, transparency=0))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), ORANGE]


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(file_format):
    picture = Image.new("CMYK", (16, 16), (0, 127, 255, 0))
    np.testing.assert_allclose(decode(file_bytes(picture, file_format)), np.full((16, 16, 3), ORANGE), atol=3)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(file_format, orientation):
    upright = Image.new("RGB", (48, 32), "black")
    upright.paste("white", (0, 0, 16, 16))
    # A camera held that way stores the inverse of the transposition that its tag asks for.
    inverses = [None, None, 0, 3, 1, 5, 2, 6, 4]
    inverse = inverses[orientation]
    stored = upright if inverse is None else upright.transpose(Image.Transpose(inverse))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_allclose(decode(file_bytes(stored, file_format, exif=exif)), upright, atol=40)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "TIFF"])
def test_first_frame_of_an_animation(file_format):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    animation = file_bytes(frames[0], file_format, save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(decode(animation), frames[0], atol=2)


def test_bytes_paths_and_images_agree(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(file_bytes(noise(9, 7)))
    for raw in (path.read_bytes(), path, str(path), noise(9, 7)):
        np.testing.assert_array_equal(decode(raw), noise(9, 7))


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "unreadable_image"),
        (b"roses are red", "unreadable_image"),
        (file_bytes(noise(60, 60), "JPEG")[:-400], "unreadable_image"),
        (file_bytes(noise(60, 60), "PNG")[:-400], "unreadable_image"),
        (file_bytes(noise(60, 60), "PPM"), "unreadable_image"),
        (file_bytes(Image.new("L", (1, 60_000))), "image_too_large"),
        (file_bytes(Image.new("L", (60_000, 1))), "image_too_large"),
        (huge_png(10_000, 9_000), "image_too_large"),
        (huge_png(100_000, 100_000), "image_too_large"),
        ("nowhere.jpg", "no_such_file"),
        (None, "unknown_input"),
        (3, "unknown_input"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_unreadable_pictures_have_a_code(raw, code):
    with pytest.raises(InputError) as error:
        decode(raw)
    assert error.value.code == code
    assert str(error.value) == error.value.message and "\n" not in error.value.message


def numbers(*values: float, mode: str = "F") -> bytes:
    picture = Image.new(mode, (len(values), 1))
    picture.putdata(values)
    return file_bytes(picture, "TIFF")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_pixels_that_are_not_numbers_are_refused(value):
    with pytest.raises(InputError) as error:
        decode(numbers(1, value))
    assert error.value.code == "unreadable_image"
    assert error.value.message == "holds pixels that are not numbers (NaN or infinity); fill them"


@pytest.mark.parametrize(("mode", "values"), [("F", (0, 70_000)), ("I", (-1_000, 3_000)), ("I", (0, 2**31 - 1))])
def test_numbers_that_are_no_gray_are_refused(mode, values):
    with pytest.raises(InputError) as error:
        decode(numbers(*values, mode=mode))
    assert error.value.code == "unreadable_image"
    assert error.value.message.endswith("expected 0 to 1, 255 or 65535; scale them")


@pytest.mark.parametrize("white", [1, 255, 65_535])
def test_white_of_numbers(white):
    assert decode(numbers(0, white, -0.01 * white)).tobytes() == b"\0\0\0\xff\xff\xff\0\0\0"


def test_heic_is_named():
    with pytest.raises(InputError) as error:
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    assert error.value.code == "unreadable_image"
    assert error.value.message == (
        "a HEIC picture, which is not read: save it as JPEG (an iPhone does with Settings > Camera > Most Compatible)"
    )


def test_folders_and_pipes_are_no_pictures(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path, tmp_path / "pipe.jpg", "/dev/zero"):
        with pytest.raises(InputError) as error:
            decode(path)
        assert error.value.code == "unreadable_image"


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".avif"])
def test_suffixes_of_jpeg_and_avif_are_read(tmp_path, suffix):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"1{suffix}").write_bytes(file_bytes(noise(9, 7), "AVIF" if suffix == ".avif" else "JPEG"))
    assert [row.label for row in listing(tmp_path, SECTION).rows] == ["a"]


def test_skipped_heic_says_what_to_do(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("1.jpg", "2.HEIC"):
        (tmp_path / "a" / name).write_bytes(b"content")
    (skipped,) = listing(tmp_path, SECTION).skipped
    assert skipped == {"id": "a/2.HEIC", "reason": ".heic pictures are not read: save them as JPEG or PNG"}


def test_a_damaged_lazy_image_is_rejected():
    lazy = Image.open(io.BytesIO(file_bytes(noise(60, 60), "JPEG")[:-400]))
    with pytest.raises(InputError) as error:
        decode(lazy)
    assert error.value.code == "unreadable_image"


def test_a_view_depends_on_its_seed():
    first, again, reseeded = (
        random_view(noise(90, 70), size=(32, 32), rng=random.Random(s), **AUGMENT) for s in (0, 0, 1)
    )
    assert first.tobytes() == again.tobytes() != reseeded.tobytes()


@pytest.mark.parametrize("size", [(90, 70), (70, 90), (1, 1), (200, 1), (1, 200)])
def test_a_view_has_its_size(size):
    rng = random.Random(0)
    assert {random_view(noise(*size), size=(32, 32), rng=rng, **AUGMENT).size for _ in range(20)} == {(32, 32)}


def test_no_augmentation_keeps_a_square():
    view = random_view(noise(32, 32), size=(32, 32), rotation=0.0, smallest_crop=1.0, flip=False, rng=random.Random(0))
    np.testing.assert_array_equal(view, noise(32, 32))


def test_views_rotate_both_ways():
    post = Image.new("RGB", (64, 64))
    post.paste("white", (30, 0, 34, 32))
    rng = random.Random(0)
    views = [random_view(post, size=(64, 64), rotation=30.0, smallest_crop=1.0, flip=False, rng=rng) for _ in range(20)]
    tops = [np.asarray(view)[4, :, 0].argmax() for view in views]
    assert min(tops) < 24 and max(tops) > 40


def test_half_of_the_views_are_mirrored():
    plain, rng = noise(32, 32), random.Random(0)
    views = [random_view(plain, size=(32, 32), rotation=0.0, smallest_crop=1.0, flip=True, rng=rng) for _ in range(200)]
    mirrored = sum(view.tobytes() != plain.tobytes() for view in views)
    assert 70 < mirrored < 130


def test_views_respect_smallest_crop():
    ramp = Image.fromarray(np.arange(100, dtype=np.uint8)[None, :, None].repeat(100, 0).repeat(3, 2))
    rng = random.Random(0)
    views = [
        random_view(ramp, size=(100, 100), rotation=0.0, smallest_crop=0.5, flip=False, rng=rng) for _ in range(100)
    ]
    widths = [float(np.ptp(view)) for view in views]
    # Half of the area with sides of 3:4 is 61 pixels wide.
    assert 55 < min(widths) < 75 and max(widths) > 90
