# SPDX-License-Identifier: BSD-3-Clause
"""Image files: reads any format as RGB, finds damaged files early, writes uncompressed PNG."""

import contextlib
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".png", ".apng", ".bmp", ".gif", ".ppm", ".pgm"),
    *(".pbm", ".pnm", ".tif", ".tiff", ".webp", ".avif", ".tga"),
)
"""Endings of the names of images, in lower case."""
ORIENTATION_TAG = 0x0112
Turn = Image.Transpose
_UPRIGHT: dict[Any, Image.Transpose] = {
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}
"""EXIF orientation -> what turns the stored image upright."""
_EXCHANGING = {_UPRIGHT[orientation] for orientation in (5, 6, 7, 8)}
"""Turns that exchange width and height."""
_INVERSE = {Turn.ROTATE_90: Turn.ROTATE_270, Turn.ROTATE_270: Turn.ROTATE_90}
"""Turns that are not their own inverse."""
UNIT_SCALE_LIMIT = 16
"""Floating-point grey below this is on a scale from 0 to 1, with highlights above 1 at most."""
_WHOLE_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


class BadImageError(ValueError):
    """An image file that is missing, broken or of another size than annotated.

    Attributes:
        kind: "missing image" or "broken image".
    """

    def __init__(self, message: str, kind: str = "broken image") -> None:
        # From a loader's process, it comes with the text of the traceback before the message.
        super().__init__(message.rpartition("BadImageError: ")[2].rstrip())
        self.kind = kind


def read_rgb(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Reads an image file as RGB; see `to_rgb`.

    Args:
        path: Image file.
        size: Annotated (width, height), or None to follow the EXIF orientation.

    Returns:
        uint8 [H, W, 3].

    Raises:
        BadImageError: No such file, not an image, broken, or not of the annotated size.
    """
    with _opened(path) as image:
        _check_size(image, path, size)
        return _to_rgb(image, size)


def to_rgb(image: Image.Image, size: tuple[int, int] | None = None) -> np.ndarray:
    """Converts an image of any mode to RGB; of several frames the first.

    EXIF orientation is followed, unless only the image as stored has the annotated size. Palette,
    CMYK, grey and bilevel become RGB; transparency is dropped. Grey of more than 8 bits keeps the
    8 highest of the bits in use: 8, 10, 12, ... as the brightest pixel needs. So does grey in
    floating point, but below 16 it is taken as 0 to 1 and clipped; NaN is black. Colour of 16 bits
    in a PNG follows the same rule, with the brightest value of all channels; of other files and of
    loaded images Pillow has only the high byte.

    Args:
        image: As Pillow opened or made it.
        size: Annotated (width, height), or None to follow the EXIF orientation.

    Returns:
        uint8 [H, W, 3].

    Raises:
        BadImageError: The image has no pixels, or its file turned out to be broken.
    """
    with _reading(getattr(image, "filename", "") or "image"):
        return _to_rgb(image, size)


def _to_rgb(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    if 0 in image.size:
        raise ValueError("has no pixels")
    colour = _sixteen_bit_png(image)
    if colour is not None:
        turn = _upright_turn(image)
        stored = colour.shape[1::-1]
        follow = turn and size in (None, stored[::-1] if turn in _EXCHANGING else stored)
        picture = Image.fromarray(colour)
        return np.array(picture.transpose(turn) if turn and follow else picture)
    image = _turned(image, size)
    if image.mode.startswith(("I", "F")):
        return np.repeat(_to_8_bits(np.asarray(image))[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def array_to_rgb(array: np.ndarray) -> np.ndarray:
    """Converts an array of pixels to RGB, by the rule of `to_rgb` for its range.

    Args:
        array: [H, W], or [H, W, C] with 1 to 4 channels: grey, grey and alpha, RGB, RGB and alpha.
            Booleans are black and white; bytes stay as they are.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError: no pixels, another shape, or values that are no real numbers.
    """
    what = f"{array.dtype} {list(array.shape)}"
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"image: wanted pixels [H, W] or [H, W, channels], got {what}")
    channels = array.shape[2] if array.ndim == 3 else 1
    if channels > 4:
        hint = "; the channels come last" if array.shape[0] <= 4 else "; choose three of them"
        raise ValueError(f"image: wanted 1 to 4 channels, got {what}{hint}")
    if array.dtype.kind not in "buif":
        raise ValueError(f"image: wanted numbers, got {what}")
    array = array.reshape(*array.shape[:2], channels)
    array = array[..., : 1 if channels < 3 else 3]  # without alpha
    if array.dtype == bool:
        array = array * np.uint8(255)
    elif array.dtype != np.uint8:
        array = _to_8_bits(array)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _sixteen_bit_png(image: Image.Image) -> np.ndarray | None:
    """Returns a PNG in colour, or grey with alpha, of 16 bits as RGB; None for all other images.

    Pillow would reduce it to the high bytes, which are dark if fewer bits are in use.
    """
    if not isinstance(image, ImageFile.ImageFile) or image.format != "PNG":
        return None
    if image.fp is None or not image.tile:  # already loaded
        return None
    if str(image.tile[0].args) not in ("RGB;16B", "RGBA;16B", "LA;16B"):
        return None
    from torchvision.io import ImageReadMode, decode_png

    image.fp.seek(0)
    content = torch.frombuffer(bytearray(image.fp.read()), dtype=torch.uint8)
    image.fp.seek(image.tile[0].offset)
    pixels = decode_png(content, ImageReadMode.UNCHANGED)
    return array_to_rgb(pixels.permute(1, 2, 0).numpy())


def _turned(image: Image.Image, size: tuple[int, int] | None) -> Image.Image:
    """Loads an image, upright or as stored as `to_rgb` says."""
    turn, is_tiff = _upright_turn(image), image.format == "TIFF"
    image.load()
    if turn is None:
        return image
    exchanged = turn in _EXCHANGING and not is_tiff
    follow = size in (None, image.size[::-1] if exchanged else image.size)
    if is_tiff:  # Pillow turns these when it loads them
        return image if follow else image.transpose(_INVERSE.get(turn, turn))
    return image.transpose(turn) if follow else image


def _to_8_bits(grey: np.ndarray) -> np.ndarray:
    """Returns values of any range as uint8; `to_rgb` has the rule."""
    values = np.where(np.isnan(grey), 0, grey).astype(np.float64).clip(min=0)
    brightest = values.max(where=np.isfinite(values), initial=0)
    if np.issubdtype(grey.dtype, np.floating) and brightest < UNIT_SCALE_LIMIT:
        return np.rint(255 * values.clip(max=1)).astype(np.uint8)
    bits = max(int(brightest).bit_length(), 8)
    bits += bits % 2
    return (values / 2.0 ** (bits - 8)).clip(max=255).astype(np.uint8)


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


def upright_size(path: str | Path) -> tuple[int, int]:
    """Returns width and height of an image whose EXIF orientation is followed, from its header.

    Raises:
        BadImageError: No such file, or not an image.
    """
    with _opened(path) as image:
        # An orientation after a PNG's pixels would take decoding all of them, and is not followed.
        is_known = image.format != "PNG" or "exif" in image.info
        width, height = image.size
        turn = _UPRIGHT.get(image.getexif().get(ORIENTATION_TAG)) if is_known else None
        return (height, width) if turn in _EXCHANGING else (width, height)


def upright_sizes(paths: Sequence[Path]) -> list[tuple[int, int] | BadImageError]:
    """Returns for each file what `upright_size` returns, or its error."""

    def size(path: Path) -> tuple[int, int] | BadImageError:
        try:
            return upright_size(path)
        except BadImageError as error:
            return error

    with ThreadPoolExecutor() as pool:
        return list(pool.map(size, paths))


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
    """Opens an image file; errors here and in the block become `BadImageError`."""
    with _reading(path):
        if not stat.S_ISREG(kind := Path(path).stat().st_mode):
            if stat.S_ISDIR(kind):
                raise IsADirectoryError
            # Reading a pipe or a device might never end.
            raise BadImageError(f"{path}: not a regular file")
        # By its path, Pillow would map the file into memory, and so scramble turned TIFF.
        with open(path, "rb") as file, Image.open(file) as image:
            yield image


@contextlib.contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    """Turns whatever Pillow raises in the block into a `BadImageError` that names the file.

    Its decoders meet damage with errors of any type, such as KeyError, zlib.error or MemoryError.
    """
    try:
        yield
    except BadImageError:
        raise
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        note = "; folders in a name end with /, not \\" if "\\" in str(path) else ""
        raise BadImageError(f"{path}: no such image file{note}", "missing image") from None
    except UnidentifiedImageError:
        raise BadImageError(f"{path}: not an image that Pillow can read") from None
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise BadImageError(f"{path}: broken image: {reason}") from None


def _upright_turn(image: Image.Image) -> Image.Transpose | None:
    """Returns what turns the stored image upright, or None where EXIF data asks for nothing."""
    if image.format != "TIFF":
        image.load()  # EXIF data may follow the pixels; of a TIFF it is gone once it is loaded
    try:
        return _UPRIGHT.get(image.getexif().get(ORIENTATION_TAG))
    except Exception:  # damaged EXIF data: the image itself may be intact
        return None


def _check_size(image: Image.Image, path: str | Path, size: tuple[int, int] | None) -> None:
    if size is None or size == image.size:
        return
    exchanged = _upright_turn(image) in _EXCHANGING
    if not (exchanged and size == image.size[::-1]):
        got, wanted = "{} x {}".format(*image.size), "{} x {}".format(*size)
        note = " (or the reverse, by its EXIF orientation)" if exchanged else ""
        raise BadImageError(f"{path}: image is {got}{note}, annotated as {wanted}")


def _ends_with(path: str | Path, end: bytes) -> bool:
    with open(path, "rb") as file:
        file.seek(-min(len(end), Path(path).stat().st_size), 2)
        return file.read() == end
