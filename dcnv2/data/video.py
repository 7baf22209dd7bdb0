# SPDX-License-Identifier: BSD-3-Clause
"""Video files: reads their frames by torchcodec or OpenCV, whichever is installed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcnv2.data.images import BadImageError

SUFFIXES = (".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg")
"""Endings of the names of videos, in lower case."""


def read_frames(path: str | Path) -> Iterator[Any]:
    """Yields the frames of a video file in order: uint8 arrays [H, W, 3] in RGB.

    Raises:
        BadImageError: No such file, no frame in it, or no decoder is installed.
    """
    if not Path(path).is_file():
        raise BadImageError(f"{path}: no such video file", "missing image")
    frames = _by_torchcodec(path) or _by_opencv(path)
    if frames is None:
        raise BadImageError(
            f"{path}: videos need a decoder: pip install opencv-python-headless, or torchcodec "
            "and FFmpeg; without one, give a folder of frames"
        )
    count = 0
    try:
        for frame in frames:
            count += 1
            yield frame
    except (RuntimeError, ValueError, IndexError) as error:
        raise BadImageError(f"{path}: broken video after {count} frames: {error}") from None
    if not count:
        raise BadImageError(f"{path}: not a video with frames that can be read")


def _by_torchcodec(path: str | Path) -> Iterator[Any] | None:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError):  # the latter without FFmpeg's libraries
        return None

    def frames() -> Iterator[Any]:
        for frame in VideoDecoder(str(path)):  # uint8 [3, H, W]
            yield frame.permute(1, 2, 0).numpy()

    return frames()


def _by_opencv(path: str | Path) -> Iterator[Any] | None:
    try:
        import cv2
    except (ImportError, OSError):
        return None

    def frames() -> Iterator[Any]:
        capture = cv2.VideoCapture(str(path))
        try:
            while True:
                intact, frame = capture.read()
                if not intact:
                    return
                yield frame[..., ::-1]  # BGR
        finally:
            capture.release()

    return frames()
