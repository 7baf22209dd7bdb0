# SPDX-License-Identifier: BSD-3-Clause
"""Image files: reads any format as RGB, finds damaged files early, writes uncompressed PNG."""

import contextlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

ORIENTATION_TAG = 0x0112
_WHOLE_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


class BadImageError(ValueError):
    """An image file that is missing, broken or of another size than annotated.

    Attributes:
        kind: "missing image" or "broken image".
    """

    def __init__(self, message: str, kind: str = "broken image") -> None:
        super().__init__(message)
        self.kind = kind


def read_rgb(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Reads an image file as RGB.

    EXIF orientation is applied, unless only the unrotated image has the annotated size. 16-bit grey
    keeps its high byte; palette, CMYK, grey and bilevel become RGB; transparency is dropped.

    Args:
        path: Image file.
        size: Annotated (width, height), or None to take the file's.

    Returns:
        uint8 [H, W, 3].

    Raises:
        BadImageError: No such file, not an image, broken, or not of the annotated size.
    """
    with _opened(path) as image:
        _check_size(image, path, size)
        image.load()
        if size is None or _shown_size(image) == size:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            grey = np.asarray(image).astype(np.int64) >> 8
            return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
        return np.array(image.convert("RGB"))


def probe(path: str | Path, size: tuple[int, int] | None = None, decode: bool = False) -> None:
    """Checks that a file is an intact image of the annotated size.

    The header contains format and size. A JPEG or PNG without its end marker, and any other format,
    is decoded.

    Args:
        path: Image file.
        size: Annotated (width, height), or None for any.
        decode: Decode in any case, which also finds damage in the middle of a file.

    Raises:
        BadImageError: As `read_rgb` would.
    """
    with _opened(path) as image:
        _check_size(image, path, size)
        end = _WHOLE_ENDS.get(image.format or "")
        if decode or end is None or not _ends_with(path, end):
            image.load()


def probe_all(
    files: Sequence[tuple[str | Path, tuple[int, int]]], decode: bool = False
) -> list[BadImageError | None]:
    """Returns for each (file, annotated size) what `probe` finds wrong with it, or None."""

    def fault(file: tuple[str | Path, tuple[int, int]]) -> BadImageError | None:
        try:
            probe(*file, decode)
        except BadImageError as error:
            return error
        return None

    with ThreadPoolExecutor() as pool:  # overlaps the latency of network disks
        return list(pool.map(fault, files))


def write_png(path: str | Path, pixels: np.ndarray) -> None:
    """Writes uint8 [H, W, 3] as a PNG without compression.

    Compressed bytes depend on the version of zlib; stored ones are the same everywhere. They take
    a tenth of the time to write, a quarter to read, and grainy pictures hardly compress anyway.
    """
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with filter type 0
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    blocks = [raw[i : i + 0xFFFF] for i in range(0, len(raw), 0xFFFF)]
    deflated = b"".join(
        struct.pack("<BHH", block is blocks[-1], len(block), 0xFFFF - len(block)) + block
        for block in blocks
    )
    stream = b"\x78\x01" + deflated + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b""))
    )
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    """Opens an image; errors here and in the block become `BadImageError`."""
    try:
        with Image.open(path) as image:
            yield image
    except (FileNotFoundError, IsADirectoryError):
        raise BadImageError(f"{path}: no such image file", "missing image") from None
    except UnidentifiedImageError:
        raise BadImageError(f"{path}: not an image that Pillow can read") from None
    except (OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise BadImageError(f"{path}: broken image: {error}") from None


def _shown_size(image: Image.Image) -> tuple[int, int]:
    """Width and height once the EXIF orientation is followed."""
    turned = image.getexif().get(ORIENTATION_TAG, 1) >= 5
    return image.size[::-1] if turned else image.size


def _check_size(image: Image.Image, path: str | Path, size: tuple[int, int] | None) -> None:
    # The stored size first: Pillow decodes a PNG to find its orientation.
    if size is not None and size != image.size and size != _shown_size(image):
        got, wanted = "{} x {}".format(*_shown_size(image)), "{} x {}".format(*size)
        raise BadImageError(f"{path}: image is {got}, annotated as {wanted}")


def _ends_with(path: str | Path, end: bytes) -> bool:
    with open(path, "rb") as file:
        file.seek(-min(len(end), Path(path).stat().st_size), 2)
        return file.read() == end
