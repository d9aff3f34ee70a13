"""Reads an untrusted picture file as 8-bit sRGB, upright and on a white background, or reports why it cannot.

This is the only code that decodes users' pictures. The pixels are those that a viewer shows: EXIF rotation is applied,
an embedded colour profile is converted to sRGB, and 16-bit grey is scaled to 8 bits. Only the formats listed here are
decoded, whatever the file name, and very large pictures are refused.
"""

from __future__ import annotations

import io
import mmap
import stat
import zlib
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP")
"""Formats that are decoded, by Pillow's names."""

BACKGROUND = (255, 255, 255)
"""Background of transparent pictures: white, as on a page."""

READING = "srgb-8bit,upright,on-white"
"""How pictures are read, for signatures."""

MAX_PIXELS = 2**28 // 3
"""Size limit of a picture: a quarter of a GiB as 8-bit RGB, 89 megapixels."""

_ORIENTATION = 0x0112
"""EXIF tag; 1 is upright."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the transformation that turns the picture upright."""

_EIGHT_BITS = ("1", "L", "RGB")
"""Raw modes in which the colour that a PNG declares transparent (tRNS) is on the scale of its decoded pixels."""

_END_OF_IMAGE, _WITHOUT_LENGTH = 0xD9, frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""JPEG markers (ITU T.81, table B.1): the end, and those without a following segment, including stuffed zeros."""


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class PictureError(ValueError):
    """A file cannot be used as a picture; the message says why and what to do, and does not contain the file name."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture's pixels as sRGB, shape (H, W, 3).

    Raises:
        PictureError: If it is not a complete PNG, JPEG or WebP picture of one frame.
    """
    try:
        with _opened(path) as file, Image.open(file, formats=FORMATS) as image:
            _refuse(image, file)
            image.load()
            return np.array(_on_white(_turned_upright(image)))
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError("no PNG, JPEG or WebP data in it; save it as PNG") from error
    except Exception as error:  # Pillow can raise any exception for a damaged file
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PictureError(f"it cannot be decoded ({reason or type(error).__name__}); replace or remove it") from error


def _opened(path: Path) -> BinaryIO:
    """Open a regular file; opening a pipe would block."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise PictureError("it is not a regular file; remove it")
    if status.st_size == 0:
        raise PictureError("the file is empty; replace or remove it")
    return path.open("rb")


def _refuse(image: Image.Image, file: BinaryIO) -> None:
    """Refuse files that Pillow would decode to other pixels than a viewer shows."""
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(f"{image.width} × {image.height} pixels, more than {MAX_PIXELS:,}; make it smaller")
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise PictureError("it is an animation; save one frame as a picture")
    if image.format in ("JPEG", "MPO") and not _has_end(file):
        raise PictureError("the end of the JPEG data is missing, as after a broken download; replace or remove it")
    if image.format == "PNG" and not _has_valid_checksums(file):
        raise PictureError("a checksum of the PNG data is wrong, as after a broken copy; replace or remove it")
    if isinstance(image.info.get("transparency"), (int, tuple)) and image.mode != "P" and not _is_8_bit(image):
        raise PictureError(
            "a colour is declared transparent, which is supported only at 8 bits; save it with an alpha channel"
        )


def _is_8_bit(image: Image.Image) -> bool:
    """Return whether a PNG has 8 bits or 1 bit per channel."""
    return isinstance(image, ImageFile.ImageFile) and [tile.args in _EIGHT_BITS for tile in image.tile] == [True]


def _has_end(file: BinaryIO) -> bool:
    """Return whether a JPEG contains the end of its first image; libjpeg silently fills missing parts with grey."""
    with closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        at = 2
        while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
            marker = data[at + 1]
            if marker == _END_OF_IMAGE:
                return True
            at += 1
            if marker not in _WITHOUT_LENGTH and marker != 0xFF:  # 0xFF before a marker is padding
                at += 1 + int.from_bytes(data[at + 1 : at + 3])
    return False


def _has_valid_checksums(file: BinaryIO) -> bool:
    """Return whether the checksums of a PNG's pixel data are correct; Pillow does not detect changed pixels."""
    with closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        at = len(_PNG_SIGNATURE)
        while (end := at + 12 + int.from_bytes(data[at : at + 4])) <= len(data):  # length, kind, data, checksum
            if data[at + 4 : at + 8] == b"IDAT" and zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(
                data[end - 4 : end]
            ):
                return False
            at = end
    return True


def _turned_upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; unreadable EXIF data is ignored."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - Pillow can raise any exception for damaged EXIF data
        return image
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> Image.Image:
    """Return the picture as opaque sRGB."""
    colour, alpha = _parts(image)
    opaque = _as_srgb(colour, image.info.get("icc_profile"))
    if alpha is None:
        return opaque
    page = Image.new("RGB", opaque.size, BACKGROUND)
    page.paste(opaque, mask=alpha)
    return page


def _parts(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the colour as grey, RGB or CMYK at 8 bits, and the opacity, None if the picture has no alpha channel.

    Raises:
        PictureError: If the picture has channels of another kind.
    """
    if image.mode == "I;16":
        return Image.fromarray(((np.array(image).astype(np.uint32) + 128) // 257).astype(np.uint8)), None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "LA" else "RGBA")
        return image.convert(image.mode.removesuffix("A")), image.getchannel("A")
    if image.mode in ("1", "L", "P", "RGB", "CMYK"):
        return image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode)), None
    raise PictureError(f"its colour mode {image.mode!r} is not supported; save it as 8-bit RGB")


def _as_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _to_srgb(profile, image.mode) if profile else None
    if transform is None:
        return image.convert("RGB")
    return cast("Image.Image", ImageCms.applyTransform(image, transform))  # None only for an edit in place


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion from an embedded profile; None if the profile does not fit, which viewers ignore too."""
    try:
        return ImageCms.buildTransform(io.BytesIO(profile), ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
