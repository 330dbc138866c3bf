"""Tasks drawn on the spot, without data: `shapes`, `shapes-mask`, `textures`, `motifs`, `waves`, `communities`.

They ask for different abilities. `shapes` and `shapes-mask` need outlines at any place, size and angle; `textures`
needs statistics of neighbouring pixels and no place at all, so that no linear map knows more than chance; `motifs` and
`waves` are sequences, told apart by what occurs in them and by how they swing; `communities` are graphs, whose nodes
are told apart by their neighbours. Training examples are fresh each epoch; decide and test are drawn from other seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nasplat.task.bundle import Bundle
from nasplat.task.task import Split, Task

SIDE, LENGTH = 16, 96
"""Height and width of a picture in pixels; steps of a sequence."""
SHAPES = ("disc", "ring", "square", "frame", "triangle", "cross", "bar", "half")
"""What a picture of `shapes` may show."""
TEXTURES, MOTIFS = 8, 6
"""Numbers of textures and of motifs, hence of classes."""
WAVES = ("sine", "square", "saw", "chirp up", "chirp down", "swelling", "vibrato", "bursts")
"""How a sequence of `waves` may swing."""
NODES, PAIRS, COMMUNITIES = 32, 64, 4
"""Of each graph of `communities`: nodes, pairs of nodes that are joined, and communities, hence classes."""


def shapes(n: int, seed: int, noise: float = 0.25, masks: bool = False) -> Split:
    """Draw shapes at random places, sizes and angles, before strokes of clutter and noise.

    Args:
        n: Number of pictures.
        seed: Seed of the pictures; equal seeds give equal ones.
        noise: Standard deviation of the pixel noise; the shape is 0.6 to 1 brighter than the background.
        masks: Whether the targets are masks (0 background, 1 shape, 2 clutter) and not the number of the shape.

    Returns:
        Pictures of shape (n, 1, 16, 16), roughly standardised; targets of shape (n,), or (n, 16, 16) for masks.
    """
    rng = np.random.default_rng([seed, 1])
    kind = rng.integers(len(SHAPES), size=n)
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1).astype(np.float32)
    centre = rng.uniform(5, SIDE - 6, (n, 1, 1, 2)).astype(np.float32)
    size = rng.uniform(3.2, 5.0, (n, 1, 1)).astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi, (n, 1, 1)).astype(np.float32)
    off = grid - centre
    u = (off[..., 0] * np.cos(angle) + off[..., 1] * np.sin(angle)) / size
    v = (off[..., 1] * np.cos(angle) - off[..., 0] * np.sin(angle)) / size
    inside = _inside(u, v, kind)
    lines = _lines(rng, n, grid)
    canvas = inside * rng.uniform(0.6, 1.0, (n, 1, 1)) + (lines & ~inside) * rng.uniform(0.3, 0.8, (n, 1, 1))
    canvas += noise * rng.standard_normal(canvas.shape)
    x = torch.from_numpy(((canvas - 0.25) / 0.4).astype(np.float32)[:, None])
    y = np.where(inside, 1, np.where(lines, 2, 0)) if masks else kind
    return Split(x, torch.from_numpy(y.astype(np.int64)))


def _inside(u: NDArray[Any], v: NDArray[Any], kind: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels that belong to a shape, from coordinates along its axes in units of its size; all have a like area."""
    radius, box = np.hypot(u, v), np.maximum(abs(u), abs(v))
    made = [
        radius < 0.8,
        (radius < 1.0) & (radius > 0.55),
        box < 0.72,
        (box < 0.9) & (box > 0.5),
        (u > -0.6) & (u + 1.73 * abs(v) < 1.1),
        (np.minimum(abs(u), abs(v)) < 0.28) & (box < 1.0),
        (abs(v) < 0.4) & (abs(u) < 1.2),
        (radius < 1.1) & (u > 0.0),
    ]
    return np.choose(kind[:, None, None], made)


def _lines(rng: np.random.Generator, n: int, grid: NDArray[Any]) -> NDArray[np.bool_]:
    """Two thin strokes of random place and angle in each picture."""
    found = np.zeros((n, SIDE, SIDE), bool)
    for _ in range(2):
        angle = rng.uniform(0, np.pi, (n, 1, 1))
        place, start = rng.uniform(-6, 6, (n, 1, 1)), rng.uniform(-8, 2, (n, 1, 1))
        a, b = grid[..., 0] - SIDE / 2, grid[..., 1] - SIDE / 2
        across, along = a * np.cos(angle) + b * np.sin(angle), b * np.cos(angle) - a * np.sin(angle)
        found |= (abs(across - place) < 0.6) & (along > start) & (along < start + 7)
    return found


@cache
def _kernels() -> NDArray[np.float64]:
    """Filters that make the textures: fixed noise, with equal energy and equal mean, so that only structure differs."""
    made = np.random.default_rng(7).standard_normal((TEXTURES, 5, 5))
    made -= made.mean((1, 2), keepdims=True)
    return made / np.sqrt((made**2).sum((1, 2), keepdims=True))


def textures(n: int, seed: int, noise: float = 0.6) -> Split:
    """Draw textures: white noise behind one of eight fixed filters, of random contrast.

    Args:
        n: Number of pictures.
        seed: Seed of the pictures; equal seeds give equal ones.
        noise: Standard deviation of the noise over the texture, whose own is 1 before its contrast.

    Returns:
        Pictures of shape (n, 1, 16, 16), roughly standardised, and the number of the filter, shape (n,).
    """
    rng = np.random.default_rng([seed, 2])
    from scipy.signal import fftconvolve

    y = rng.integers(TEXTURES, size=n)
    white = rng.standard_normal((n, SIDE + 4, SIDE + 4))
    made = fftconvolve(white, _kernels()[y], mode="valid", axes=(1, 2))
    made = made * rng.uniform(0.7, 1.3, (n, 1, 1)) + noise * rng.standard_normal((n, SIDE, SIDE))
    return Split(torch.from_numpy((made / 1.2).astype(np.float32)[:, None]), torch.from_numpy(y))


@cache
def _motifs() -> NDArray[np.float64]:
    """Short two-channel patterns, smooth and of equal energy; beyond the first six are those that mean nothing."""
    made = np.random.default_rng(11).standard_normal((MOTIFS + 4, 2, 14))
    made = (made[..., :-2] + made[..., 1:-1] + made[..., 2:]) / 3
    return made / np.sqrt((made**2).mean((1, 2), keepdims=True))


def motifs(n: int, seed: int, noise: float = 0.9) -> Split:
    """Draw sequences in which one of six patterns occurs somewhere, among two that mean nothing.

    Args:
        n: Number of sequences.
        seed: Seed of the sequences; equal seeds give equal ones.
        noise: Standard deviation of the noise; that of a pattern is 1.

    Returns:
        Sequences of shape (n, 2, 96), roughly standardised, and the number of the pattern, shape (n,).
    """
    rng = np.random.default_rng([seed, 3])
    y = rng.integers(MOTIFS, size=n)
    patterns, long = _motifs(), _motifs().shape[-1]
    x = noise * rng.standard_normal((n, 2, LENGTH))
    which = np.stack([y, *rng.integers(MOTIFS, len(patterns), (2, n))], 1)
    order = rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1)  # each pattern has a third of the sequence to itself
    starts = order * (LENGTH // 3) + rng.integers(0, LENGTH // 3 - long, (n, 3))
    steps = np.arange(long)
    for k in range(3):
        added = patterns[which[:, k]] * rng.uniform(0.8, 1.2, (n, 1, 1))
        x[np.arange(n)[:, None, None], np.arange(2)[:, None], (starts[:, k, None] + steps)[:, None]] += added
    return Split(torch.from_numpy((x / 1.1).astype(np.float32)), torch.from_numpy(y))


def waves(n: int, seed: int, noise: float = 0.8) -> Split:
    """Draw waves of random pitch and phase that swing in one of eight ways, under noise.

    Args:
        n: Number of sequences.
        seed: Seed of the sequences; equal seeds give equal ones.
        noise: Standard deviation of the noise; waves lie between -1 and 1.

    Returns:
        Sequences of shape (n, 1, 96), roughly standardised, and the number of the kind in `WAVES`, shape (n,).
    """
    rng = np.random.default_rng([seed, 4])
    y = rng.integers(len(WAVES), size=n)
    t = np.linspace(0, 1, LENGTH)[None]
    pitch, phase = rng.uniform(5, 11, (n, 1)), rng.uniform(0, 1, (n, 1))
    slow = rng.uniform(0, 1, (n, 1))
    turns = pitch * t + phase
    made = [
        np.sin(2 * np.pi * turns),
        np.sign(np.sin(2 * np.pi * turns)),
        2 * (turns % 1) - 1,
        np.sin(2 * np.pi * (0.5 * pitch * t + 0.6 * pitch * t**2 + phase)),
        np.sin(2 * np.pi * (1.7 * pitch * t - 0.6 * pitch * t**2 + phase)),
        np.sin(2 * np.pi * turns) * np.sin(np.pi * (2 * t + slow)),
        np.sin(2 * np.pi * turns + 2.5 * np.sin(2 * np.pi * (2 * t + slow))),
        np.sin(2 * np.pi * turns) * (np.sin(2 * np.pi * (3 * t + slow)) > 0),
    ]
    x = np.choose(y[:, None], made) * rng.uniform(0.7, 1.3, (n, 1)) + noise * rng.standard_normal((n, LENGTH))
    return Split(torch.from_numpy(x.astype(np.float32)[:, None]), torch.from_numpy(y))


def communities(n: int, seed: int, noise: float = 1.0, mixed: float = 0.1) -> Split:
    """Draw graphs whose edges mostly join nodes of one community; what is known of a node alone tells little.

    Args:
        n: Number of graphs.
        seed: Seed of the graphs; equal seeds give equal ones.
        noise: Standard deviation of the noise on what is known of a node, which is 0.7 larger where its community is.
        mixed: Odds of a pair of two communities to be joined, relative to those of a pair of one.

    Returns:
        Node features of shape (n, 32, 8), roughly standardised, and edges of shape (n, 2, 128), each pair in both
        directions; the number of each node's community, shape (n, 32).
    """
    rng = np.random.default_rng([seed, 5])
    y = rng.integers(COMMUNITIES, size=(n, NODES))
    x = noise * rng.standard_normal((n, NODES, 2 * COMMUNITIES))
    x[..., :COMMUNITIES] += 0.7 * (y[..., None] == np.arange(COMMUNITIES))
    source = rng.integers(NODES, size=(n, 8 * PAIRS))
    target = (source + rng.integers(1, NODES, size=source.shape)) % NODES  # no node is joined to itself
    alike = np.take_along_axis(y, source, 1) == np.take_along_axis(y, target, 1)
    late = ~(alike | (rng.random(source.shape) < mixed))
    chosen = np.argsort(late, axis=1, kind="stable")[:, :PAIRS]
    pairs = np.stack([np.take_along_axis(ends, chosen, 1) for ends in (source, target)], 1)
    edges = np.concatenate([pairs, pairs[:, ::-1]], 2)
    bundle = Bundle(torch.from_numpy(x.astype(np.float32)), torch.from_numpy(edges.astype(np.int64)))
    return Split(bundle, torch.from_numpy(y.astype(np.int64)))


DRAWN: dict[str, Callable[..., Split]] = {
    "shapes": shapes,
    "shapes-mask": partial(shapes, masks=True),
    "textures": textures,
    "motifs": motifs,
    "waves": waves,
    "communities": communities,
}
"""What draws the examples of each task: called with a number of examples and a seed."""


def drawn(name: str, train: int = 4096, decide: int = 2048, test: int = 4096, seed: int = 0) -> Task:
    """Make a task whose examples are drawn on the spot.

    Args:
        name: Name of the task in `DRAWN`.
        train: Examples of one epoch of training; each epoch has fresh ones.
        decide: Examples that decisions rest on.
        test: Examples that are reported on.
        seed: Seed of all examples.

    Returns:
        The task, of that name.

    Example:
        >>> drawn("textures", train=64, decide=32, test=32)
        Task(textures: 64 train, 32 decide, 32 test of shape (1, 16, 16), accuracy_percent)
    """
    draw, start = DRAWN[name], 3_000_000_000 + 3 * seed  # far from the numbers of epochs
    about: dict[str, Any] = {"metric_name": "pixel_accuracy_percent"} if name == "shapes-mask" else {}
    return Task(
        name,
        draw(train, start),
        draw(decide, start + 1),
        draw(test, start + 2),
        renew=lambda epoch: draw(train, epoch),
        **about,
    )
