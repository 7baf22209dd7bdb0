# SPDX-License-Identifier: BSD-3-Clause
"""Which names files of weights have, and what a file is that is none, by its first bytes."""

from __future__ import annotations

from pathlib import Path

# Beginnings of files, in the order in which they are tried.
_BEGINNINGS = (
    ((b"<!doctype html", b"<html"), "a web page, as a failed download leaves it: fetch the file"),
    ((b"<?xml",), "XML, as VOC's annotations are: `dcnv2 data check` takes their folder"),
    ((b"version https://git-lfs",), "a pointer of Git LFS: `git lfs pull` fetches the file"),
    ((b"{", b"["), "JSON, as COCO's annotations are: `dcnv2 data check` takes their folder"),
    ((b"\xff\xd8\xff", b"\x89png", b"gif8", b"bm"), "a picture: `dcnv2 predict` takes it"),
    ((b"\x89hdf",), "HDF5, as Keras writes it; no detector here has its weights"),
    ((b"\x1f\x8b", b"bzh", b"\xfd7zxz"), "a compressed file: unpack it"),
)
_SUFFIXES = {".pth", ".pt", ".pkl", ".pyth", ".bin", ".ckpt", ".tar", ".safetensors"}
_CONFIGURATIONS = (".yaml", ".yml")


def is_weights_name(path: str | Path) -> bool:
    """Whether a path ends as that of a file of weights; `runs/r50.v2` is a folder's."""
    return Path(path).suffix.lower() in _SUFFIXES


def looks_like(path: Path) -> str | None:
    """Returns what a file looks like and what takes it; None if that is unknown.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        begin = file.read(64).lstrip().lower()
    if path.suffix.lower() in _CONFIGURATIONS:
        return "a configuration: `dcnv2 train` takes it"
    if path.suffix.lower() == ".onnx":
        return "an ONNX program: no detector here is built from one"
    found = (text for starts, text in _BEGINNINGS if begin.startswith(starts))
    return next(found, None)
