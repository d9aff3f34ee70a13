"""A picture is read as a viewer shows it; each case is compared with the same picture as plain 8-bit RGB."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from audit.storage.outside.picture import MAX_PIXELS, PictureError, read_picture

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (24, 32), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[40:200:5, 30:190:5], 90), axis=2).astype(np.uint8)
"""Almost unchanged by JPEG: (32, 32, 3), a gradient in two channels."""
THREE_GREYS = np.repeat(GREY[:, :, None], 3, axis=2)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels, depth, colour_type, *extra):
    """A PNG with packed rows, written as in its standard (ISO/IEC 15948) and not by the library that reads it."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width * 8 // depth if depth < 8 else width, height, depth, colour_type, 0, 0, 0)
    body = b"".join((chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + body


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path):
    """Read bytes as a picture, under a name that is independent of their format."""

    def of(data):
        path = tmp_path / "picture.png"
        path.write_bytes(data)
        return read_picture(path)

    return of


def test_16_bit_grey_is_scaled_to_8_bits(read):
    exact = png(GREY.astype(">u2") * 257, 16, 0)
    np.testing.assert_array_equal(read(exact), THREE_GREYS)
    between = np.array([[0, 128, 129, 257, 32896, 65406, 65535]], ">u2")
    assert read(png(between, 16, 0))[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 255]


def test_other_depths_and_palettes_give_the_same_picture(read):
    np.testing.assert_array_equal(read(png(COLOURS.astype(">u2") * 257, 16, 2)), COLOURS)
    np.testing.assert_array_equal(read(saved(Image.fromarray(GREY), "PNG")), THREE_GREYS)
    np.testing.assert_array_equal(read(png(np.array([[0b00011011]], np.uint8), 2, 0))[0, :, 0], [0, 85, 170, 255])
    bits = Image.fromarray(GREY > 127)
    np.testing.assert_array_equal(read(saved(bits, "PNG"))[:, :, 0], np.where(GREY > 127, 255, 0))
    palette = Image.fromarray(COLOURS).quantize(64)
    np.testing.assert_array_equal(read(saved(palette, "PNG")), np.array(palette.convert("RGB")))
    np.testing.assert_array_equal(read(saved(Image.fromarray(COLOURS), "WEBP", lossless=True)), COLOURS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_rotation_in_the_exif_data_is_applied(read, orientation, form):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16], upright[:8, 16:], upright[8:, :16] = 250, (250, 0, 0), (0, 250, 0)
    # How a camera in this orientation stores the scene: EXIF 2.32, table 6, row and column of the stored pixel (0, 0).
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright), 7: np.rot90(upright[:, ::-1], -1), 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}[form]
    data = saved(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **lossless)
    np.testing.assert_allclose(read(data).astype(int), upright, atol=6)


def test_transparent_pixels_are_shown_on_white(read):
    alpha = np.zeros((24, 32), np.uint8)
    alpha[:8], alpha[8:16] = 255, 51
    weight = (alpha / 255)[:, :, None]
    expected = weight * COLOURS + (1 - weight) * 255
    with_alpha = Image.fromarray(np.dstack([COLOURS, alpha]))
    for data in (saved(with_alpha, "PNG"), saved(with_alpha, "WEBP", lossless=True, exact=True)):
        np.testing.assert_allclose(read(data), expected, atol=1)
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    np.testing.assert_allclose(read(saved(grey, "PNG")), weight * THREE_GREYS + (1 - weight) * 255, atol=1)
    np.testing.assert_array_equal(read(saved(Image.fromarray(COLOURS).convert("RGBA"), "PNG")), COLOURS)


def test_a_transparent_palette_entry_or_colour_is_shown_on_white(read):
    palette = Image.fromarray(COLOURS).quantize(8)
    expected = np.array(palette.convert("RGB"))
    expected[np.array(palette) == 3] = 255
    np.testing.assert_array_equal(read(saved(palette, "PNG", transparency=3)), expected)
    key = tuple(int(value) for value in COLOURS[5, 5])
    expected = np.where(np.equal(COLOURS, key).all(axis=2, keepdims=True), 255, COLOURS)
    np.testing.assert_array_equal(read(saved(Image.fromarray(COLOURS), "PNG", transparency=key)), expected)


def test_a_transparent_colour_of_another_depth_is_refused(read):
    for pixels, depth, kind, key in (
        (GREY.astype(">u2") * 257, 16, 0, ">H"),
        (COLOURS.astype(">u2") * 257, 16, 2, ">HHH"),
        (np.array([[0b00011011]], np.uint8), 2, 0, ">H"),
    ):
        transparent = chunk(b"tRNS", struct.pack(key, *[1] * (len(key) - 1)))
        with pytest.raises(PictureError, match="declared transparent"):
            read(png(pixels, depth, kind, transparent))


def test_cmyk_is_converted_back_to_the_original_colours(read):
    data = saved(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=100, subsampling=0)
    np.testing.assert_allclose(read(data).astype(int), SMOOTH, atol=4)


def test_a_colour_profile_is_applied_unless_it_does_not_fit(read):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(read(saved(Image.fromarray(COLOURS), "PNG", icc_profile=srgb)), COLOURS)
    # Swapped primaries: the profile's red is green in sRGB (columns of the matrix, ICC.1:2010, 9.2).
    swapped = srgb.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    assert swapped != srgb
    found = read(saved(Image.fromarray(SMOOTH), "PNG", icc_profile=swapped))
    np.testing.assert_allclose(found.astype(int), SMOOTH[:, :, [1, 0, 2]], atol=1)
    for junk in (b"no profile" * 30, srgb[:200]):
        np.testing.assert_array_equal(read(saved(Image.fromarray(COLOURS), "PNG", icc_profile=junk)), COLOURS)
    np.testing.assert_array_equal(read(saved(Image.fromarray(GREY), "PNG", icc_profile=srgb)), THREE_GREYS)


def test_unreadable_exif_data_are_ignored(read):
    np.testing.assert_array_equal(read(saved(Image.fromarray(COLOURS), "PNG", exif=b"Exif\0\0nonsense")), COLOURS)


FRAMES = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (0, 120, 250)]


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_an_animation_is_refused(read, form):
    with pytest.raises(PictureError, match="it is an animation"):
        read(saved(FRAMES[0], form, save_all=True, append_images=FRAMES[1:]))


def test_the_first_picture_of_a_camera_s_multi_picture_jpeg_is_read(read):
    first, second = (Image.fromarray(picture) for picture in (SMOOTH, SMOOTH[::-1].copy()))
    data = saved(first, "MPO", save_all=True, append_images=[second], quality=100, subsampling=0)
    np.testing.assert_allclose(read(data).astype(int), SMOOTH, atol=4)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_picture_is_refused_and_not_filled_with_grey(read, form):
    data = saved(Image.fromarray(np.tile(COLOURS, (4, 4, 1))), form)
    for left in (0, 1, len(data) // 100, len(data) // 2, len(data) - 64):
        with pytest.raises(PictureError):
            read(data[:left])


def test_a_png_whose_pixels_were_changed_after_it_was_written_is_refused(read):
    """Without compression a changed byte is a changed pixel; only the checksum shows it."""
    data = bytearray(saved(Image.fromarray(COLOURS), "PNG", compress_level=0))
    data[len(data) // 2] ^= 1
    with pytest.raises(PictureError, match="checksum"):
        read(bytes(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_partly_downloaded_jpeg_is_refused(read, progressive):
    data = saved(Image.fromarray(np.tile(COLOURS, (4, 4, 1))), "JPEG", progressive=progressive)
    for lost in (16, len(data) // 2):
        with pytest.raises(PictureError):
            read(data[:-lost] + bytes(lost))
    assert read(data + bytes(100)).shape == (96, 128, 3)  # padding after the end is not part of the picture


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_only_supported_formats_are_decoded_regardless_of_the_file_name(read, form):
    with pytest.raises(PictureError, match="no PNG, JPEG or WebP data"):
        read(saved(Image.fromarray(COLOURS), form))


def test_a_picture_that_is_too_large_is_refused_by_its_header(read):
    for side in (int(MAX_PIXELS**0.5) + 1, 40_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        with pytest.raises(PictureError, match=r"pixels"):
            read(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))


def test_a_text_chunk_that_unpacks_to_gigabytes_is_refused(read):
    bomb = zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK * 4))
    with pytest.raises(PictureError):
        read(png(COLOURS, 8, 2, chunk(b"zTXt", b"a\0\0" + bomb)))


def test_pipes_and_folders_are_refused_without_blocking(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name in ("pipe.png", "folder.png"):
        with pytest.raises(PictureError, match="not a regular file"):
            read_picture(tmp_path / name)
    with pytest.raises(PictureError, match="No such file"):
        read_picture(tmp_path / "absent.png")
