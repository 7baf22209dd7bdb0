# SPDX-License-Identifier: BSD-3-Clause
"""Contours of the eight classes of the embedded set, and the warp that deforms them.

Contours live near the unit disc, x to the right and y down, as contours [V, 2]: the first is the
outside, any other winds against it and cuts a hole. Their shape parameters are random; place,
turn and size are not decided here.
"""

import math
from collections.abc import Callable

import numpy as np

Contours = list[np.ndarray]
CIRCLE_POINTS = 72
EDGE_POINTS = 6
_SINE_SERIES = [(-1) ** k / math.factorial(2 * k + 1) for k in range(7, -1, -1)]


def sine(turns: np.ndarray) -> np.ndarray:
    """Returns sin(2 pi turns) as a Taylor sum, since libm's last digit differs between machines."""
    centred = turns - np.floor(turns + 0.5)
    angle = 2 * np.pi * np.minimum(np.abs(centred), 0.5 - np.abs(centred))
    square = angle * angle
    total = np.zeros_like(angle)
    for coefficient in _SINE_SERIES:
        total = total * square + coefficient
    return np.where(centred < 0, -1.0, 1.0) * total * angle


def on_circle(turns: np.ndarray) -> np.ndarray:
    """Returns the points [..., 2] of the unit circle at the given turns from the x axis."""
    return np.stack([sine(turns + 0.25), sine(turns)], -1)


def _circle(points: int = CIRCLE_POINTS) -> np.ndarray:
    return on_circle(np.arange(points) / points)


def _subdivide(corners: np.ndarray) -> np.ndarray:
    """Splits each edge of a polygon, so that a warp can bend it."""
    steps = (np.arange(EDGE_POINTS) / EDGE_POINTS)[:, None]
    following = np.roll(corners, -1, axis=0)
    return (corners[:, None] + (following - corners)[:, None] * steps).reshape(-1, 2)


def ellipse(random: np.ndarray) -> Contours:
    return [_circle() * [1, 0.55 + 0.35 * random[0]]]


def ring(random: np.ndarray) -> Contours:
    hole = _circle()[::-1] * (0.5 + 0.15 * random[0])
    hole[:, 1] += 0.2 * (random[1] - 0.5)
    return [_circle(), hole]


def crescent(random: np.ndarray) -> Contours:
    """The unit disc less another disc, whose centre lies on the positive x axis."""
    distance, radius = 0.4 + 0.15 * random[0], 0.75 + 0.12 * random[1]
    outer = _circle()
    inner = outer * radius + [distance, 0]
    outer = outer[((outer - [distance, 0]) ** 2).sum(1) > radius**2]
    inner = inner[(inner**2).sum(1) < 1]
    cusp_x = (1 - radius**2 + distance**2) / (2 * distance)
    cusp_y = np.sqrt(1 - cusp_x**2)
    return [np.concatenate([[[cusp_x, cusp_y]], outer, [[cusp_x, -cusp_y]], inner[::-1]])]


def star(random: np.ndarray) -> Contours:
    tips = 5 + int(2 * random[0])
    corners = _circle(2 * tips)
    corners[1::2] *= 0.42 + 0.1 * random[1]
    return [_subdivide(corners)]


def gear(random: np.ndarray) -> Contours:
    teeth = 7 + int(3 * random[0])
    start = np.arange(teeth)[:, None] / teeth
    corners = on_circle(start + np.array([0.0, 0.12, 0.38, 0.5]) / teeth)
    corners *= np.array([0.72, 1, 1, 0.72])[:, None]
    return [_subdivide(corners.reshape(-1, 2)), _circle()[::-1] * (0.25 + 0.12 * random[1])]


def arrow(random: np.ndarray) -> Contours:
    shaft, head, neck = 0.16 + 0.08 * random[0], 0.55 + 0.15 * random[1], 0.3 * random[2] - 0.05
    half = [[-1, shaft], [neck, shaft], [neck - 0.1, head], [1, 0]]
    mirrored = [[x, -y] for x, y in half[-2::-1]]
    return [_subdivide(np.array(half + mirrored))[::-1]]


def leaf(random: np.ndarray) -> Contours:
    """A pointed blade, widest before its middle, on a thin stalk."""
    width, lean = 0.42 + 0.16 * random[0], 0.25 + 0.3 * random[1]
    x = np.arange(-20, 21) / 20
    half = np.maximum(width * (1 - x * x) * (1 - lean * x), 0)
    half[0] = 0.05
    blade = np.concatenate([np.stack([x, -half], 1), np.stack([x, half], 1)[-2::-1]])
    stalk = _subdivide(np.array([[-1, 0.05], [-1.4, 0.06], [-1.4, -0.06], [-1, -0.05]]))
    return [np.concatenate([blade[:-1], stalk[: 3 * EDGE_POINTS]])]


def worm(random: np.ndarray) -> Contours:
    """A tube with round ends along a piece of a sine wave."""
    x = np.arange(-24, 25) / 24
    waves, swing, phase = 1.1 + 0.5 * random[0], 0.26 + 0.12 * random[1], random[2]
    line = np.stack([x, swing * sine(waves * x / 2 + phase)], 1)
    along = np.diff(line, axis=0)
    along = np.concatenate([along[:1], (along[1:] + along[:-1]) / 2, along[-1:]])
    normal = along[:, ::-1] * [-1, 1] / np.sqrt((along**2).sum(1, keepdims=True))
    half = (0.13 + 0.04 * random[3]) * np.sqrt(1 - (x * x) ** 6)[:, None]
    return [np.concatenate([line - normal * half, (line + normal * half)[::-1]])]


CONTOURS: dict[str, Callable[[np.ndarray], Contours]] = {
    contour.__name__: contour
    for contour in (ellipse, ring, crescent, star, gear, arrow, leaf, worm)
}
"""Class name -> contour of four uniform draws. The order is that of the category ids."""


def deform(contours: Contours, random: np.ndarray, strength: float) -> Contours:
    """Bends contours by a parabola and two plane waves of displacement.

    At strength 1 the waves' derivatives add up to less than one, so the warp has an inverse and no
    contour crosses itself.

    Args:
        contours: Contours about the unit disc.
        random: Nine uniform draws.
        strength: 0 leaves the contour as it is.
    """
    bend = strength * 0.7 * (random[0] - 0.5)
    waves = []
    for wave, side, across, turn in random[1:].reshape(2, 4):
        direction, push = on_circle(np.array([side, turn]))
        frequency = 0.3 + 0.25 * across
        waves.append((frequency * direction, strength * 0.065 / frequency * push, wave))
    warped = []
    for points in contours:
        x, y = points.T
        points = np.stack([x, y + bend * x * x], 1)
        moved = points
        for frequency, push, phase in waves:
            turns = points[:, :1] * frequency[0] + points[:, 1:] * frequency[1] + phase
            moved = moved + sine(turns) * push
        warped.append(moved)
    return warped


def place(
    contours: Contours, side: float, centre: tuple[float, float], random: np.ndarray
) -> tuple[Contours, np.ndarray]:
    """Squeezes, turns and mirrors contours, then fits their longer box side and their centre.

    Args:
        contours: Contours about the unit disc.
        side: Longer side of the placed contour's box, in pixels.
        centre: Middle of that box, in pixels.
        random: Three uniform draws: squeeze, turn, mirror.

    Returns:
        The placed contours, and the matrix [2, 3] that takes pixels back to contour coordinates.
    """
    squeeze = 0.75 + 0.25 * random[0]
    (cosine, sin_turn) = on_circle(random[1:2])[0]
    mirror = 1.0 if random[2] < 0.5 else -1.0
    a, b, c, d = cosine, -sin_turn * squeeze * mirror, sin_turn, cosine * squeeze * mirror
    turned = []
    for points in contours:
        x, y = points.T
        turned.append(np.stack([a * x + b * y, c * x + d * y], 1))
    low, high = turned[0].min(0), turned[0].max(0)
    scale = side / (high - low).max()
    shift = np.asarray(centre) - scale * (low + high) / 2
    placed = [points * scale + shift for points in turned]
    determinant = scale * (a * d - b * c)
    inverse = np.array([[d, -b], [-c, a]]) / determinant
    x, y = shift
    origin = [-(inverse[0, 0] * x + inverse[0, 1] * y), -(inverse[1, 0] * x + inverse[1, 1] * y)]
    return placed, np.column_stack([inverse, origin])
