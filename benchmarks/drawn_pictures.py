"""Random picture files of all kinds that occur on disks, each with the pixels that a viewer shows, or none.

The expected pixels are known twice: Pillow reads the file in the simplest way, and for a lossless format they are the
pixels that the file was made from.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Pixels = NDArray[np.uint8]
Rng = np.random.Generator

ORIENTATION = 0x0112


@dataclass(frozen=True)
class DrawnPicture:
    """A picture file.

    Attributes:
        data: Its bytes.
        suffix: File name extension.
        shown: Pixels that a viewer shows, (H, W, 3); None if the file must be refused.
    """

    data: bytes
    suffix: str
    shown: Pixels | None


def plainly_read(data: bytes) -> Pixels:
    """Read a whole picture with Pillow, without this project's code."""
    image = Image.open(io.BytesIO(data))
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "I;16":
        upright = Image.fromarray(np.round(np.asarray(upright) / 257).astype(np.uint8))
    if not upright.has_transparency_data:
        return np.asarray(upright.convert("RGB"))
    rgba = np.asarray(upright.convert("RGBA")).astype(float)
    alpha = rgba[:, :, 3:] / 255
    return np.round(rgba[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _shape(rng: Rng, side: int | None) -> tuple[int, int]:
    if side is not None:
        return side, side
    return int(rng.choice([1, 2, 7, 24, 64])), int(rng.choice([1, 3, 8, 33, 64]))


def _colours(rng: Rng, side: int | None) -> Pixels:
    return rng.integers(0, 256, (*_shape(rng, side), 3), dtype=np.uint8)


def _grey(rng: Rng, side: int | None) -> Pixels:
    return rng.integers(0, 256, _shape(rng, side), dtype=np.uint8)


def _three(grey: Pixels) -> Pixels:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _rgb(rng: Rng, side: int | None) -> DrawnPicture:
    pixels = _colours(rng, side)
    return DrawnPicture(_saved(Image.fromarray(pixels), "PNG"), ".png", pixels)


def _interlaced(rng: Rng, side: int | None) -> DrawnPicture:
    """Write an Adam7 PNG according to the standard, since Pillow cannot."""
    pixels = _colours(rng, side)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::right] for top, left, down, right in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    return DrawnPicture(_png(pixels.shape[1], pixels.shape[0], 8, 2, rows, interlace=1), ".png", pixels)


def _png(width: int, height: int, depth: int, kind: int, rows: bytes, *extra: bytes, interlace: int = 0) -> bytes:
    """Write a PNG according to the standard (ISO/IEC 15948)."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace)
    parts = (_chunk(b"IHDR", header), *extra, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _rows(pixels: NDArray[np.uint16] | Pixels) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def _sixteen_bit_grey(rng: Rng, side: int | None) -> DrawnPicture:
    deep = rng.integers(0, 65536, _shape(rng, side)).astype(">u2")
    data = _png(deep.shape[1], deep.shape[0], 16, 0, _rows(deep))
    return DrawnPicture(data, ".png", _three(np.round(deep / 257).astype(np.uint8)))


def _sixteen_bit_grey_rotated(rng: Rng, side: int | None) -> DrawnPicture:
    deep = rng.integers(0, 65536, _shape(rng, side)).astype(">u2")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation = int(rng.integers(1, 9))
    data = _png(deep.shape[1], deep.shape[0], 16, 0, _rows(deep), _chunk(b"eXIf", exif.tobytes()[6:]))
    shown = _upright(np.round(deep / 257).astype(np.uint8), orientation)
    return DrawnPicture(data, ".png", _three(shown))


def _sixteen_bit_colours(rng: Rng, side: int | None) -> DrawnPicture:
    pixels = _colours(rng, side)
    data = _png(pixels.shape[1], pixels.shape[0], 16, 2, _rows((pixels.astype(np.uint16) * 257).astype(">u2")))
    return DrawnPicture(data, ".png", pixels)


def _sixteen_bit_alpha(rng: Rng, side: int | None) -> DrawnPicture:
    """Write 16-bit grey with alpha: Pillow reads it at 8 bits."""
    grey, opaque = _grey(rng, side), bool(rng.integers(2))
    both = np.stack([grey.astype(np.uint16) * 257, np.full(grey.shape, opaque * 65535, np.uint16)], axis=2).astype(
        ">u2"
    )
    data = _png(grey.shape[1], grey.shape[0], 16, 4, _rows(both))
    return DrawnPicture(data, ".png", _three(grey if opaque else np.full_like(grey, 255)))


def _greys(rng: Rng, side: int | None) -> DrawnPicture:
    pixels = _grey(rng, side)
    return DrawnPicture(_saved(Image.fromarray(pixels), "PNG"), ".png", _three(pixels))


def _bits(rng: Rng, side: int | None) -> DrawnPicture:
    white = _grey(rng, side) > 127
    return DrawnPicture(_saved(Image.fromarray(white), "PNG"), ".png", _three(np.where(white, 255, 0).astype(np.uint8)))


def _palette(rng: Rng, side: int | None) -> DrawnPicture:
    image = Image.fromarray(_colours(rng, side)).quantize(int(rng.choice([2, 4, 16, 200])))
    return DrawnPicture(_saved(image, "PNG"), ".png", np.asarray(image.convert("RGB")))


def _palette_transparent(rng: Rng, side: int | None) -> DrawnPicture:
    image = Image.fromarray(_colours(rng, side)).quantize(4)
    shown = np.array(image.convert("RGB"))
    shown[np.asarray(image) == 1] = 255
    return DrawnPicture(_saved(image, "PNG", transparency=1), ".png", shown)


def _key_colour(rng: Rng, side: int | None) -> DrawnPicture:
    pixels = _colours(rng, side)
    key = tuple(int(value) for value in pixels[0, 0])
    shown = np.where(np.equal(pixels, key).all(axis=2, keepdims=True), 255, pixels).astype(np.uint8)
    return DrawnPicture(_saved(Image.fromarray(pixels), "PNG", transparency=key), ".png", shown)


def _key_grey(rng: Rng, side: int | None) -> DrawnPicture:
    pixels = _grey(rng, side)
    shown = np.where(pixels == pixels[0, 0], 255, pixels).astype(np.uint8)
    data = _saved(Image.fromarray(pixels), "PNG", transparency=int(pixels[0, 0]))
    return DrawnPicture(data, ".png", _three(shown))


def _transparent(rng: Rng, side: int | None) -> DrawnPicture:
    pixels = _colours(rng, side)
    alpha = rng.integers(0, 256, pixels.shape[:2], dtype=np.uint8)
    image = Image.fromarray(np.dstack([pixels, alpha]))
    form = str(rng.choice(["PNG", "WEBP"]))
    data = _saved(image, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    return DrawnPicture(data, f".{form.lower()}", plainly_read(_saved(image, "PNG")))


def _grey_transparent(rng: Rng, side: int | None) -> DrawnPicture:
    grey = _grey(rng, side)
    alpha = rng.integers(0, 256, grey.shape, dtype=np.uint8)
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    weight = alpha / 255
    shown = np.round(grey * weight + 255 * (1 - weight)).astype(np.uint8)
    return DrawnPicture(_saved(image, "PNG"), ".png", _three(shown))


def _upright(stored: Pixels, orientation: int) -> Pixels:
    """Rotate the stored pixels according to EXIF 2.32, table 6."""
    turned = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }  # fmt: skip
    return np.ascontiguousarray(turned[orientation](stored))


def _rotated(rng: Rng, side: int | None) -> DrawnPicture:
    pixels = _colours(rng, side)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation = int(rng.integers(1, 9))
    form = str(rng.choice(["PNG", "JPEG", "WEBP"]))
    options = {"PNG": {}, "JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}[form]
    data = _saved(Image.fromarray(pixels), form, exif=exif, **options)
    stored = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return DrawnPicture(data, ".jpg" if form == "JPEG" else f".{form.lower()}", _upright(stored, orientation))


def _odd_orientation(rng: Rng, side: int | None) -> DrawnPicture:
    """Write an invalid orientation: the picture is shown as stored."""
    pixels = _colours(rng, side)
    number = struct.pack(">HHIHH", ORIENTATION, 3, 1, int(rng.choice([0, 9, 77])), 0)
    word = struct.pack(">HHI4s", ORIENTATION, 2, 2, b"6")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + (word if rng.integers(2) else number) + bytes(4)
    return DrawnPicture(_saved(Image.fromarray(pixels), "PNG", exif=exif), ".png", pixels)


def _jpeg(rng: Rng, side: int | None) -> DrawnPicture:
    mode = str(rng.choice(["RGB", "L", "CMYK"]))
    image = Image.fromarray(_colours(rng, side)).convert(mode)
    data = _saved(image, "JPEG", quality=int(rng.choice([40, 90])), progressive=bool(rng.integers(2)))
    return DrawnPicture(data, str(rng.choice([".jpg", ".JPEG", ".jpe", ".jfif"])), plainly_read(data))


def _webp(rng: Rng, side: int | None) -> DrawnPicture:
    data = _saved(Image.fromarray(_colours(rng, side)), "WEBP", quality=80)
    return DrawnPicture(data, ".webp", plainly_read(data))


def _wrong_suffix(rng: Rng, side: int | None) -> DrawnPicture:
    """Give a picture the extension of another accepted format: the content decides."""
    drawn = _jpeg(rng, side) if rng.integers(2) else _rgb(rng, side)
    return DrawnPicture(drawn.data, str(rng.choice([".webp", ".PNG", ".jpg"])), drawn.shown)


def _padded(rng: Rng, side: int | None) -> DrawnPicture:
    drawn = _jpeg(rng, side) if rng.integers(2) else _rgb(rng, side)
    return DrawnPicture(drawn.data + bytes(int(rng.integers(1, 200))), drawn.suffix, drawn.shown)


def _cut(rng: Rng, side: int | None) -> DrawnPicture:
    drawn = [_jpeg, _rgb, _webp, _palette, _sixteen_bit_grey][int(rng.integers(5))](rng, side)
    end = len(drawn.data) - 12 if drawn.suffix == ".png" else len(drawn.data) - 2
    return DrawnPicture(drawn.data[: int(rng.integers(0, end))], drawn.suffix, None)


def _lost_rest(rng: Rng, side: int | None) -> DrawnPicture:
    """Write a JPEG whose second half was never downloaded."""
    data = _saved(Image.fromarray(_colours(rng, side or 40)), "JPEG", quality=90)
    half = len(data) // 2
    return DrawnPicture(data[:half] + bytes(len(data) - half), ".jpg", None)


def _animated(rng: Rng, side: int | None) -> DrawnPicture:
    frames = [Image.fromarray(np.full((side or 8, side or 8, 3), value, np.uint8)) for value in (0, 120, 250)]
    form = str(rng.choice(["PNG", "WEBP"]))
    data = _saved(frames[0], form, save_all=True, append_images=frames[1:])
    return DrawnPicture(data, f".{form.lower()}", None)


def _other_format(rng: Rng, side: int | None) -> DrawnPicture:
    """Write a format that is not accepted, with its own or another extension."""
    form = str(rng.choice(["GIF", "BMP", "TIFF", "PPM"]))
    data = _saved(Image.fromarray(_colours(rng, side)), form)
    return DrawnPicture(data, str(rng.choice([f".{form.lower()}", ".png", ".jpg"])), None)


def _key_of_another_depth(rng: Rng, side: int | None) -> DrawnPicture:
    grey = _grey(rng, side)
    key = _chunk(b"tRNS", struct.pack(">H", 7))
    data = _png(grey.shape[1], grey.shape[0], 16, 0, _rows((grey.astype(np.uint16) * 257).astype(">u2")), key)
    return DrawnPicture(data, ".png", None)


def _no_picture(rng: Rng, side: int | None) -> DrawnPicture:
    data = [b"", b"no picture", b"<html>", bytes(64), b"\xff\xd8\xff\xd9"][int(rng.integers(5))]
    return DrawnPicture(data, str(rng.choice([".png", ".jpg", ".webp"])), None)


def _spoiled_bytes(rng: Rng, side: int | None) -> DrawnPicture:
    """Change bytes inside a PNG's data, so that its checksums fail."""
    data = bytearray(_rgb(rng, side).data)
    at = int(rng.integers(45, len(data) - 16))
    data[at] ^= 0x55
    return DrawnPicture(bytes(data), ".png", None)


Make = Callable[[Rng, int | None], DrawnPicture]

WHOLE: Mapping[str, Make] = {
    "RGB": _rgb, "interlaced": _interlaced, "16-bit grey": _sixteen_bit_grey,
    "16-bit grey, rotated": _sixteen_bit_grey_rotated, "16-bit colours": _sixteen_bit_colours,
    "16-bit grey with alpha": _sixteen_bit_alpha, "grey": _greys, "1 bit": _bits, "palette": _palette,
    "palette with a transparent entry": _palette_transparent, "transparent colour": _key_colour,
    "transparent grey": _key_grey, "alpha": _transparent, "grey with alpha": _grey_transparent, "EXIF": _rotated,
    "odd orientation": _odd_orientation, "JPEG": _jpeg, "WebP": _webp, "another's name": _wrong_suffix,
    "padded": _padded,
}  # fmt: skip
"""Pictures that are read."""

SPOILED: Mapping[str, Make] = {
    "cut": _cut, "rest lost": _lost_rest, "animated": _animated, "another format": _other_format,
    "transparent colour of another depth": _key_of_another_depth, "no picture": _no_picture,
    "spoiled bytes": _spoiled_bytes,
}  # fmt: skip
"""Pictures that must be refused."""
