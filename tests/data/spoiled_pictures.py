# SPDX-License-Identifier: BSD-3-Clause
"""Picture files that are damaged, each in its own way, as bytes by name."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIZE = (40, 30)
NOISE = np.random.default_rng(0).integers(0, 256, (*SIZE[::-1], 3), np.uint8)


def encoded(kind: str, **options) -> bytes:
    """Returns a picture of SIZE in a format of Pillow; zeros if Pillow cannot write it."""
    Image.init()
    if kind not in Image.SAVE:
        return bytes(1000)
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a PNG chunk with a correct checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, header: bytes | None = None, data: bytes | None = None) -> bytes:
    """Returns a PNG of SIZE, with further chunks before its pixels."""
    header = struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 0) if header is None else header
    rows = b"".join(b"\0" + row.tobytes() for row in NOISE)
    data = chunk(b"IDAT", zlib.compress(rows)) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), *chunks, data, chunk(b"IEND", b"")]
    )


def _cut(content: bytes, share: float = 0.6) -> bytes:
    return content[: int(len(content) * share)]


def _flipped(content: bytes, place: float, count: int = 8) -> bytes:
    begin = int(len(content) * place)
    middle, end = content[begin:][:count], content[begin:][count:]
    return content[:begin] + bytes(255 - byte for byte in middle) + end


_BOMB = zlib.compress(bytes(2**26))
_HEADERS = {
    "of no bytes": b"",
    "of 5 bytes": b"\0\0\0\1\0",
    "of 0 x 0 pixels": struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0),
    "of 2^31 pixels a side": struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0),
    "of 60000 pixels a side": struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0),
    "of colour type 9": struct.pack(">IIBBBBB", *SIZE, 8, 9, 0, 0, 0),
    "of 3 bits": struct.pack(">IIBBBBB", *SIZE, 3, 2, 0, 0, 0),
    "of an unknown filter": struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 9, 0),
}
PICTURES: dict[str, bytes] = {
    "empty": b"",
    "one byte": b"\x89",
    "zeros": bytes(5000),
    "text": b"<html>404 Not Found</html>",
    "macOS resource fork": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4000),
    "git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    **{f"PNG header {name}": png(header=header) for name, header in _HEADERS.items()},
    "PNG zTXt bomb": png(chunk(b"zTXt", b"Comment\0\0" + _BOMB)),
    "PNG iTXt bomb": png(chunk(b"iTXt", b"Comment\0\1\0\0\0" + _BOMB)),
    "PNG iCCP bomb": png(chunk(b"iCCP", b"profile\0\0" + _BOMB)),
    "PNG zTXt of no data": png(chunk(b"zTXt", b"")),
    "PNG gAMA of no data": png(chunk(b"gAMA", b"")),
    "PNG pHYs of one byte": png(chunk(b"pHYs", b"\0")),
    "PNG tRNS of one byte": png(chunk(b"tRNS", b"\0")),
    "PNG acTL of one byte": png(chunk(b"acTL", b"\0")),
    "PNG fcTL of one byte": png(chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", b"\0")),
    "PNG without pixels": png(data=b""),
    "PNG of another zlib stream": png(data=chunk(b"IDAT", b"no zlib")),
    "PNG of too few rows": png(data=chunk(b"IDAT", zlib.compress(bytes(100)))),
    "PNG cut": _cut(png()),
    "PNG cut in its header": png()[:20],
    "PNG of a wrong checksum": _flipped(png(), 0.5),
    "JPEG cut": _cut(encoded("JPEG")),
    "JPEG cut in its header": encoded("JPEG")[:12],
    "JPEG without tables": b"\xff\xd8\xff\xd9",
    "JPEG of a short segment": b"\xff\xd8\xff\xe0\0\1" + encoded("JPEG")[6:],
    "JPEG of damaged frame": encoded("JPEG").replace(b"\xff\xc0\0\x11", b"\xff\xc0\0\3", 1),
    "GIF cut": _cut(encoded("GIF")),
    "GIF cut in its header": encoded("GIF")[:9],
    "BMP cut": _cut(encoded("BMP")),
    "BMP of an unknown header": b"BM" + bytes(12) + struct.pack("<I", 7) + bytes(40),
    "BMP of 2^30 rows": encoded("BMP")[:22] + struct.pack("<i", 2**30) + encoded("BMP")[26:],
    "PPM cut": _cut(encoded("PPM")),
    "PPM of words": b"P6\nforty thirty\n255\n" + bytes(3600),
    "PPM without maximum": b"P6\n40 30\n",
    "PPM of maximum 0": b"P6\n40 30\n0\n" + bytes(3600),
    "PPM of maximum 99999": b"P6\n40 30\n99999\n" + bytes(3600),
    "PPM of an endless number": b"P6\n" + b"4" * 5000 + b" 30\n255\n",
    "PPM of negative size": b"P6\n-40 30\n255\n" + bytes(3600),
    "PGM in words": b"P2\n40 30\n255\n" + b"a lot of grey " * 200,
    "PFM of scale zero": b"Pf\n40 30\n0\n" + bytes(4800),
    "TIFF cut": _cut(encoded("TIFF")),
    "TIFF cut in its directory": encoded("TIFF", compression="tiff_lzw")[:60],
    "TIFF of LZW damaged": _flipped(encoded("TIFF", compression="tiff_lzw"), 0.3, 900),
    "TIFF of a looping directory": b"II*\0\x08\0\0\0\0\0\x08\0\0\0" + bytes(50),
    "TIFF of no entries": b"II*\0\x08\0\0\0\0\0\0\0\0\0",
    "WebP cut": _cut(encoded("WEBP")),
    "WebP damaged": _flipped(encoded("WEBP"), 0.1, 40),
    "AVIF cut": _cut(encoded("AVIF")),
    "AVIF cut in its header": encoded("AVIF")[:40],
    "AVIF damaged": _flipped(encoded("AVIF"), 0.1, 60),
    "ICO of no picture": b"\0\0\1\0\1\0" + bytes(16),
    "ICNS of no picture": b"icns\0\0\0\x08",
    "PSD cut": b"8BPS\0\1" + bytes(20),
    "TGA of zeros": b"\0\0\2" + bytes(15),
    "DDS cut": b"DDS " + struct.pack("<I", 124) + bytes(20),
    "EPS that runs": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\n",
    "JPEG 2000 cut": _cut(encoded("JPEG2000")),
    "QOI cut": encoded("QOI")[:30],
    "SGI of zeros": b"\x01\xda" + bytes(600),
    "FLI of zeros": struct.pack("<I", 128) + b"\x12\xaf" + bytes(122),
    "PCX cut": encoded("PCX")[:100],
}
MAY_BE_READ = {"PNG zTXt of no data", "JPEG of a short segment", "WebP damaged"}
"""Of these, Pillow ignores the damage."""
