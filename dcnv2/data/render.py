# SPDX-License-Identifier: BSD-3-Clause
"""Colours, textures and light for the generated set.

Pictures are float32 [H, W, 3] in [0, 1]. As in raster.py, only exactly rounded arithmetic is used.
Scalars are made float32 before they meet a picture: NumPy 1 and 2 promote float64 ones differently.
"""

import numpy as np


def colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """Returns the RGB float32 [3] of a hue in turns, a saturation and a value."""
    sector = (np.array([5, 3, 1]) + 6 * hue) % 6
    share = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    return (value * (1 - saturation * share)).astype(np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Returns float32 [height, width] in [0, 1]: random grid values, smoothly interpolated."""
    grid = rng.random((cells + 1, cells + 1), dtype=np.float32)
    rows, columns = (
        (np.arange(length, dtype=np.float32) + 0.5) * np.float32(cells / length)
        for length in (height, width)
    )
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    down, right = (
        part * part * (3 - 2 * part)
        for part in (rows - top.astype(np.float32), columns - left.astype(np.float32))
    )
    strips = grid[top] + (grid[top + 1] - grid[top]) * down[:, None]
    return strips[:, left] + (strips[:, left + 1] - strips[:, left]) * right


def _triangle(turns: np.ndarray) -> np.ndarray:
    """A triangle wave of period one between 0 and 1."""
    return np.abs(2 * (turns - np.floor(turns)) - 1)


def _stripes(u: np.ndarray, v: np.ndarray, frequency: float) -> np.ndarray:
    return np.clip(4 * _triangle(frequency * u) - 1.5, 0, 1)


def _checks(u: np.ndarray, v: np.ndarray, frequency: float) -> np.ndarray:
    waves = (2 * _triangle(frequency * u) - 1) * (2 * _triangle(frequency * v) - 1)
    return np.clip(4 * waves + 0.5, 0, 1)


def _dots(u: np.ndarray, v: np.ndarray, frequency: float) -> np.ndarray:
    across, down = _triangle(frequency * u), _triangle(frequency * v)
    return np.clip(2.5 - 5 * (across * across + down * down), 0, 1)


def _fade(u: np.ndarray, v: np.ndarray, frequency: float) -> np.ndarray:
    return np.clip(0.5 + 0.5 * u, 0, 1)


def _plain(u: np.ndarray, v: np.ndarray, frequency: float) -> np.ndarray:
    return np.zeros_like(u)


SHADOW = 3
"""How far a shadow falls to the right and down, in pixels."""
TEXTURES = (_plain, _fade, _stripes, _checks, _dots)


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Returns two muted colours mixed by smooth noise."""
    hue, shift, value, texture = rng.random(4)
    first = colour(hue, 0.1 + 0.3 * shift, 0.25 + 0.5 * value)
    second = colour(hue + 0.3 * shift, 0.35, 0.35 + 0.5 * rng.random())
    blend = smooth_noise(rng, size, size, 3)
    if texture < 0.5:
        blend = 0.6 * blend + 0.4 * smooth_noise(rng, size, size, size // 8)
    return first + (second - first) * blend[..., None]


def vivid_colours(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """Returns two related colours [2, 3] that stand out from colours [K, 3] of the ground."""
    for _ in range(4):
        hue, saturation, value, shift, contrast = rng.random(5)
        base = colour(hue, 0.5 + 0.5 * saturation, 0.45 + 0.55 * value)
        if np.abs(base - ground).max(1).min() > 0.35:
            break
    other = colour(hue + 0.2 * (shift - 0.5), 0.6, 1) * np.float32(0.5 + 0.4 * contrast)
    return np.stack([base, other])


def dull_colours(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """Returns two colours [2, 3] near one of the colours [K, 3] of the ground."""
    draws = rng.random(4).astype(np.float32)
    near = ground[int(draws[0] * len(ground))]
    change = np.float32(0.24) * (draws[1:] - np.float32(0.5))
    shades = [np.float32(0.8) * near + change, np.float32(1.15) * near + change]
    return np.clip(np.stack(shades), 0, 1)


def render_shape(
    picture: np.ndarray,
    cover: np.ndarray,
    to_unit: np.ndarray,
    corner: tuple[int, int],
    colours: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Paints one textured object with its shadow onto a picture, in place.

    Args:
        picture: float32 [H, W, 3].
        cover: Coverage float32 [h, w] of the object in a window of the picture.
        to_unit: Matrix [2, 3] from picture pixels to contour coordinates.
        corner: Row and column of the window's first pixel.
        colours: Two colours [2, 3].
        rng: Draws the texture, its frequency and its turn.
    """
    kind, frequency, turn, rim = rng.random(4)
    row, column = corner
    height, width = cover.shape
    x = np.arange(column, column + width, dtype=np.float32) + 0.5
    y = (np.arange(row, row + height, dtype=np.float32) + 0.5)[:, None]
    matrix = to_unit.astype(np.float32)
    u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    slant = np.float32(2 * turn - 1)
    pattern = TEXTURES[int(kind * len(TEXTURES))]
    mix = pattern(u + slant * v, v - slant * u, 1.0 + 1.4 * float(frequency))
    # Light falls from the upper left of the picture, whichever way the object is turned.
    slope = np.float32(0.15)
    light = np.float32(1.12) - slope * ((x - column) / width + (y - row) / height)
    if rim < 0.6:
        light = light * (np.float32(0.55) + np.float32(0.45) * _inner(cover))

    window = picture[row : row + height, column : column + width]
    window *= 1 - np.float32(0.35) * _shifted(cover)[..., None]
    skin = (colours[0] + (colours[1] - colours[0]) * mix[..., None]) * light[..., None]
    window += (skin - window) * cover[..., None]


def _inner(cover: np.ndarray) -> np.ndarray:
    """Coverage less a rim of one pixel."""
    inner = cover.copy()
    inner[1:] = np.minimum(inner[1:], cover[:-1])
    inner[:-1] = np.minimum(inner[:-1], cover[1:])
    inner[:, 1:] = np.minimum(inner[:, 1:], cover[:, :-1])
    inner[:, :-1] = np.minimum(inner[:, :-1], cover[:, 1:])
    return inner


def _shifted(cover: np.ndarray) -> np.ndarray:
    """Coverage moved to the lower right and blurred a little: a shadow."""
    shadow = np.zeros_like(cover)
    for step in range(1, SHADOW + 1):
        shadow[step:, step:] += cover[:-step, :-step] / SHADOW
    return shadow


def finish(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Adds exposure and grain, and returns uint8 [H, W, 3]."""
    exposure, grain = rng.random(2)
    noise = rng.random(picture.shape[:2], dtype=np.float32)[..., None] - np.float32(0.5)
    picture = picture * np.float32(0.85 + 0.3 * exposure) + noise * np.float32(0.02 + 0.1 * grain)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
