"""Opens a picture file: 8-bit sRGB, upright, on white where it is transparent, or a reason why it cannot be used.

The only code that decodes pictures from outside. A picture is what a viewer shows: EXIF rotation is applied, an
embedded colour profile is converted to sRGB, 16-bit grey is scaled to 8 bits. Whatever a file's name says, only the
formats named here are decoded, and no picture that fills memory.
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
"""What is decoded, in Pillow's words."""

BACKGROUND = (255, 255, 255)
"""What shows through where a picture is transparent: white, as on a page."""

READING = "srgb-8bit,upright,on-white"
"""How pictures are read, for signatures."""

MAX_PIXELS = 2**28 // 3
"""Largest picture that is decoded: a quarter of a GiB as 8-bit RGB, 89 megapixels."""

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
"""EXIF orientation → what turns the picture upright."""

_EIGHT_BITS = ("1", "L", "RGB")
"""Raw modes in which the colour that a PNG declares transparent (tRNS) is on the scale of its decoded pixels."""

_END_OF_IMAGE, _WITHOUT_LENGTH = 0xD9, frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
"""JPEG markers (ITU T.81, table B.1): the end, and those that no segment follows, stuffed zeros among them."""


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class PictureError(ValueError):
    """A file cannot be used as a picture; the message says why and what to do, without the file's name."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Return a picture's pixels as sRGB, shape (H, W, 3).

    Raises:
        PictureError: If it is not a whole PNG, JPEG or WebP picture of one frame.
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
    except Exception as error:  # what a damaged file makes Pillow raise is not limited to any kind
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PictureError(f"it cannot be decoded ({reason or type(error).__name__}); replace or remove it") from error


def _opened(path: Path) -> BinaryIO:
    """Open a regular file; to open a pipe would wait for who writes into it."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise PictureError("no regular file; remove it")
    if status.st_size == 0:
        raise PictureError("the file is empty; replace or remove it")
    return path.open("rb")


def _refuse(image: Image.Image, file: BinaryIO) -> None:
    """Refuse what would decode to a picture that nobody has seen."""
    if image.width * image.height > MAX_PIXELS:
        raise PictureError(f"{image.width} × {image.height} pixels, more than {MAX_PIXELS:,}; make it smaller")
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise PictureError("an animation; save the frame that is meant")
    if image.format in ("JPEG", "MPO") and not _has_end(file):
        raise PictureError("the end of the JPEG data is missing, as after a broken download; replace or remove it")
    if image.format == "PNG" and not _is_sound(file):
        raise PictureError("a checksum of the PNG data is wrong, as after a broken copy; replace or remove it")
    if isinstance(image.info.get("transparency"), (int, tuple)) and image.mode != "P" and not _is_8_bit(image):
        raise PictureError("one of its colours is declared transparent, not at 8 bits; save it with an alpha channel")


def _is_8_bit(image: Image.Image) -> bool:
    """Whether a PNG holds 8 bits for each channel, or 1."""
    return isinstance(image, ImageFile.ImageFile) and [tile.args in _EIGHT_BITS for tile in image.tile] == [True]


def _has_end(file: BinaryIO) -> bool:
    """Follow a JPEG's segments to the end of its first image: libjpeg fills what is missing with grey, silently."""
    with closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        at = 2
        while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
            marker = data[at + 1]
            if marker == _END_OF_IMAGE:
                return True
            at += 1
            if marker not in _WITHOUT_LENGTH and marker != 0xFF:  # 0xFF before a marker only fills up
                at += 1 + int.from_bytes(data[at + 1 : at + 3])
    return False


def _is_sound(file: BinaryIO) -> bool:
    """Whether the checksums of a PNG's pixel data hold: Pillow takes pixels that were changed for what they are."""
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
    """Apply the EXIF orientation; a block that cannot be read declares none."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - what damaged EXIF data makes Pillow raise is not limited to any kind
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
    """Return the colour as grey, RGB or CMYK at 8 bits, and the opacity where there is one.

    Raises:
        PictureError: If the picture has channels of any other kind.
    """
    if image.mode == "I;16":
        return Image.fromarray(((np.array(image).astype(np.uint32) + 128) // 257).astype(np.uint8)), None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "LA" else "RGBA")
        return image.convert(image.mode.removesuffix("A")), image.getchannel("A")
    if image.mode in ("1", "L", "P", "RGB", "CMYK"):
        return image.convert({"1": "L", "P": "RGB"}.get(image.mode, image.mode)), None
    raise PictureError(f"channels of the kind {image.mode!r}; save it as 8-bit RGB")


def _as_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _to_srgb(profile, image.mode) if profile else None
    if transform is None:
        return image.convert("RGB")
    return cast(
        "Image.Image", ImageCms.applyTransform(image, transform)
    )  # None only where it is asked to edit in place


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the conversion from an embedded profile; None where it is not one of such pictures, as viewers do."""
    try:
        return ImageCms.buildTransform(io.BytesIO(profile), ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
