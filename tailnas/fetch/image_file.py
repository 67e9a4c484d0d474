"""One image file of any size and mode, as pixels of the size and channels asked for."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tailnas.fetch.resize import as_channels, square
from tailnas.foundation.errors import spoken_size
from tailnas.foundation.machine import memory

# Formats that hold pixels. Pillow knows more, but reads some of them by running other programs.
FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA"),
    *("TIFF", "WEBP"),
)


SCALED = ("JPEG", "MPO")
"""Formats that Pillow decodes at a fraction of their size where no more is wanted."""
GREY = ("1", "L", "P")
"""Modes of one byte per pixel in Pillow's memory; it has four of the others."""
MUCH = 2**29


class Unreadable(ValueError):
    """The file is no whole image; the message says why, without the file's name."""


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def read_image(
    path: Path, size: int, channels: int, note: Callable[[str], None] = lambda text: None
) -> NDArray[np.uint8]:
    """uint8 (channels, size, size), or (1, size, size) of a grey image, which broadcasts.

    Of an animation, the first frame; turned as its EXIF orientation says; transparent parts become white; 16 bits
    become 8; resized to a square whatever its aspect ratio. Raises Unreadable.

    note: called with a word on an image that takes much memory, before it does.
    """
    with opened(path) as image:
        if (taken := _memory_of(image)) > MUCH:
            note(f"{image.width} x {image.height} pixels take {spoken_size(taken)} of memory to read")
        image.draft(None, (2 * size, 2 * size))  # lets JPEG decode at a fraction of its size
        image.load()
        return as_channels(square(plain(upright(image), channels), size), channels)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image in a file, its pixels not yet decoded. Raises Unreadable, also for what fails inside the block."""
    try:
        _require_content(path)
        # Pillow warns of odd metadata and of large images
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_formats()) as image:
            if image.format == "PNG":
                _require_whole_png(path)
            _require_room(image)
            yield image
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("not an image") from None
    except OSError as error:
        raise Unreadable(error.strerror or _one_line(error)) from None
    except MemoryError:  # the machine's fault, not the file's
        raise
    except Exception as error:  # decoders meet damage with nearly any exception
        raise Unreadable(_one_line(error)) from None


def _require_content(path: Path) -> None:
    if not path.exists():
        raise Unreadable("a link to nothing" if path.is_symlink() else "no such file")
    if not path.is_file():
        raise Unreadable("not a regular file")
    if path.stat().st_size == 0:
        raise Unreadable("0 bytes")


def _require_room(image: Image.Image) -> None:
    """Raises Unreadable for an image that this machine's memory cannot hold."""
    if (taken := _memory_of(image)) > (room := memory()):
        raise Unreadable(
            f"{image.width} x {image.height} pixels take {spoken_size(taken)} of memory to read, of {spoken_size(room)}"
        )


def _memory_of(image: Image.Image) -> int:
    """Bytes that the pixels of an image take at least."""
    return 0 if image.format in SCALED else (1 if image.mode in GREY else 4) * image.width * image.height


def _require_whole_png(path: Path) -> None:
    """Raises Unreadable for a PNG file that ends early or whose pixels have another checksum: Pillow minds neither."""
    with path.open("rb") as stream:
        stream.seek(8)
        kind = b""
        while kind != b"IEND":
            length, kind = int.from_bytes(stream.read(4), "big"), stream.read(4)
            content, checksum = stream.read(length), stream.read(4)
            if len(checksum) < 4:
                raise Unreadable("the PNG file ends early")
            if kind[:1].isupper() and zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(checksum, "big"):
                raise Unreadable("a checksum in the PNG file is another")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def upright(image: Image.Image) -> Image.Image:
    """Turned as the EXIF orientation says."""
    with suppress(Exception):  # damaged metadata of a whole image
        ImageOps.exif_transpose(image, in_place=True)  # a copy of a large scan takes half a gigabyte
    return image


def plain(image: Image.Image, channels: int) -> Image.Image:
    """Grey where one channel is asked for, else RGB; 8 bits, opaque."""
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Wide grey values, brought to 0..255.

    Whole numbers are taken as 16 bits, or as 31 where one exceeds that; fractions as 0..1, or as 0..255 where one
    exceeds 1.
    """
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        values = np.nan_to_num(values, posinf=255.0)
        full = 1 if values.max() <= 1 else 255
    else:
        full = 2**16 - 1 if values.max() < 2**16 else 2**31 - 1
    return Image.fromarray(np.rint(np.clip(values / full, 0, 1) * 255).astype(np.uint8))
