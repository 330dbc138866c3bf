"""YOLO detectors, versions 3 to 8: layout, number of blocks, width and image side, all with version 8's head.

Sources: Redmon & Farhadi 2018, arXiv:1804.02767 (3); Wang et al., CVPR 2021, arXiv:2011.08036 (4, its CSP form);
Jocher 2022, doi:10.5281/zenodo.7347926 (5); Li et al. 2022, arXiv:2209.02976 (6s, 6m, 6l); Wang et al., CVPR 2023,
arXiv:2207.02696 (7); Jocher et al. 2023 (8). The choices are those of YOLOBench, Lazarevich et al. 2023,
arXiv:2307.13901: `depth` is a factor on the repeats of blocks, which version 7 does not have, `width` one on channels.
Versions 6 and 7 stand in the form that is deployed: re-parameterised branches are one convolution; version 8 has two
convolutions where its code cuts one in two. With 80 classes the published factors of version 8 (n, s, m, l) give its
published 3,157,184, 11,166,544, 25,902,624 and 43,691,504 parameters, and n of version 5 with this head 2,654,800.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import ConvNormAct, chain

FACTORS = {"n": (0.33, 0.25), "s": (0.33, 0.5), "m": (0.67, 0.75), "l": (1.0, 1.0)}
BINS = 16
"""Distances that a side of a box is a distribution over, in cells."""
STRIDES = (8, 16, 32)
Act = Callable[[], nn.Module]
Row = tuple[str, Sequence[str], nn.Module]
"""Name of a part, names of the maps that it reads and that are joined, and the part."""


@block
class Bottleneck(nn.Module):
    """Two convolutions, beside a shortcut where it is wanted."""

    def __init__(self, inputs: int, hidden: int, first: int, shortcut: bool, act: Act) -> None:
        """Build a convolution of side `first` and one of 3; the output is as wide as the input."""
        super().__init__()
        self.reduce = ConvNormAct(inputs, hidden, first, activation=act)
        self.conv = ConvNormAct(hidden, inputs, 3, activation=act)
        self.has_shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        y = self.conv(self.reduce(x))
        return x + y if self.has_shortcut else y


def bottlenecks(width: int, hidden: int, repeats: int, first: int, shortcut: bool, act: Act) -> nn.Sequential:
    """Build bottlenecks one after another."""
    return chain([(f"block{i}", Bottleneck(width, hidden, first, shortcut, act)) for i in range(repeats)])


def plain(inputs: int, outputs: int, repeats: int, act: Act) -> nn.Sequential:
    """Build convolutions of side 3 one after another."""
    widths = [inputs, *(outputs,) * repeats]
    return chain([(f"conv{i}", ConvNormAct(w, outputs, 3, activation=act)) for i, w in enumerate(widths[:-1])])


def stem6(inputs: int, outputs: int, act: Act) -> nn.Sequential:
    """Build version 5's first convolution, whose side is even."""
    conv = nn.Conv2d(inputs, outputs, 6, 2, 2, bias=False)
    return chain([("conv", conv), ("norm", nn.BatchNorm2d(outputs)), ("act", act())])


@block
class Partial(nn.Module):
    """Half the channels pass bottlenecks, half a 1x1 convolution; one more joins them (versions 5, 6m, 6l)."""

    def __init__(
        self, inputs: int, outputs: int, repeats: int, shortcut: bool, first: int, share: float, act: Act
    ) -> None:
        """Build both ways; each has `share` of the output's channels."""
        super().__init__()
        hidden = int(outputs * share)
        self.way, self.beside = (ConvNormAct(inputs, hidden, 1, activation=act) for _ in range(2))
        self.blocks = bottlenecks(hidden, hidden, repeats, first, shortcut, act)
        self.join = ConvNormAct(2 * hidden, outputs, 1, activation=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return self.join(torch.cat([self.blocks(self.way(x)), self.beside(x)], 1))


@block
class PlainPartial(nn.Module):
    """The same with plain convolutions beside and a normalisation of both ways together (version 4)."""

    def __init__(self, inputs: int, outputs: int, repeats: int, shortcut: bool, act: Act) -> None:
        """Build both ways; without shortcuts, in the neck, they share the first convolution and are twice as wide."""
        super().__init__()
        hidden, self.is_shared = (outputs // 2 if shortcut else outputs), not shortcut
        self.way = ConvNormAct(inputs, hidden, 1, activation=act)
        self.beside = nn.Conv2d(hidden if self.is_shared else inputs, hidden, 1, bias=False)
        self.blocks = bottlenecks(hidden, hidden, repeats, 1, shortcut, act)
        self.behind = nn.Sequential() if self.is_shared else nn.Conv2d(hidden, hidden, 1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(2 * hidden), act()
        self.join = ConvNormAct(2 * hidden, outputs, 1, activation=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        y = self.way(x)
        ways = [self.behind(self.blocks(y)), self.beside(y if self.is_shared else x)]
        return self.join(self.act(self.norm(torch.cat(ways, 1))))


@block
class Split(nn.Module):
    """Bottlenecks one after another on half the channels; all that each gives is joined (version 8)."""

    def __init__(self, inputs: int, outputs: int, repeats: int, shortcut: bool, act: Act) -> None:
        """Build the bottlenecks, each half as wide as the output."""
        super().__init__()
        hidden = outputs // 2
        self.beside, self.way = (ConvNormAct(inputs, hidden, 1, activation=act) for _ in range(2))
        self.blocks = bottlenecks(hidden, hidden, repeats, 3, shortcut, act)
        self.join = ConvNormAct((2 + repeats) * hidden, outputs, 1, activation=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        found = [self.beside(x), self.way(x)]
        for part in self.blocks:
            found.append(part(found[-1]))
        return self.join(torch.cat(found, 1))


@block
class Aggregated(nn.Module):
    """Four convolutions one after another; some of what they give is joined (version 7)."""

    def __init__(self, inputs: int, outputs: int, hidden: int, width: int, every: int, act: Act) -> None:
        """Build two 1x1 convolutions of `hidden` channels and four of `width`, of which each `every`-th is joined."""
        super().__init__()
        self.way, self.beside = (ConvNormAct(inputs, hidden, 1, activation=act) for _ in range(2))
        self.convs = chain(
            [(f"conv{i}", ConvNormAct(width if i else hidden, width, 3, activation=act)) for i in range(4)]
        )
        self.every = every
        self.join = ConvNormAct(2 * hidden + 4 // every * width, outputs, 1, activation=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        found = [self.beside(x), self.way(x)]
        y = found[-1]
        for i, part in enumerate(self.convs, 1):
            y = part(y)
            found += [y] if i % self.every == 0 else []
        return self.join(torch.cat(found[::-1], 1))


@block
class Shrink(nn.Module):
    """Halves the size by pooling and by a strided convolution side by side (version 7)."""

    def __init__(self, inputs: int, outputs: int, act: Act) -> None:
        """Build both ways, each with half of the output's channels."""
        super().__init__()
        half = outputs // 2
        self.pooled, self.way = (ConvNormAct(inputs, half, 1, activation=act) for _ in range(2))
        self.conv = ConvNormAct(half, half, 3, 2, activation=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / 2, W / 2)."""
        return torch.cat([self.conv(self.way(x)), self.pooled(F.max_pool2d(x, 2))], 1)


@block
class Pyramid(nn.Module):
    """Pooling over three windows, one after another, between 1x1 convolutions (versions 5, 6 and 8)."""

    def __init__(self, inputs: int, outputs: int, act: Act) -> None:
        """Build the convolutions; pooled maps have half of the input's channels."""
        super().__init__()
        self.reduce = ConvNormAct(inputs, inputs // 2, 1, activation=act)
        self.join = ConvNormAct(inputs // 2 * 4, outputs, 1, activation=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        found = [self.reduce(x)]
        for _ in range(3):
            found.append(F.max_pool2d(found[-1], 5, 1, 2))
        return self.join(torch.cat(found, 1))


@block
class PartialPyramid(nn.Module):
    """Pooling over windows of 5, 9 and 13 between convolutions, beside a 1x1 convolution (versions 4 and 7)."""

    def __init__(self, inputs: int, outputs: int, plain: bool, act: Act) -> None:
        """Build both ways, each as wide as the output; version 4 normalises them together (`plain`)."""
        super().__init__()
        self.way = ConvNormAct(inputs, outputs, 1, activation=act)
        self.middle = ConvNormAct(outputs, outputs, 3, activation=act)
        self.reduce = ConvNormAct(outputs, outputs, 1, activation=act)
        self.pooled = ConvNormAct(4 * outputs, outputs, 1, activation=act)
        self.behind = ConvNormAct(outputs, outputs, 3, activation=act)
        self.beside = (
            nn.Conv2d(inputs, outputs, 1, bias=False) if plain else ConvNormAct(inputs, outputs, 1, activation=act)
        )
        self.norm = chain([("norm", nn.BatchNorm2d(2 * outputs)), ("act", act())] if plain else [])
        self.join = ConvNormAct(2 * outputs, outputs, 1, activation=act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        y = self.reduce(self.middle(self.way(x)))
        y = self.behind(self.pooled(torch.cat([y, *(F.max_pool2d(y, k, 1, k // 2) for k in (5, 9, 13))], 1)))
        return self.join(self.norm(torch.cat([y, self.beside(x)], 1)))


class Head(nn.Module):
    """Class scores and boxes of every cell of three maps; a side's distance is the mean of a distribution."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        """Build the convolutions for maps of these channels, the finest first."""
        super().__init__()
        box, score = max(16, widths[0] // 4, 4 * BINS), max(widths[0], min(classes, 100))
        for i, width in enumerate(widths):
            for name, hidden, outputs in (("box", box, 4 * BINS), ("score", score, classes)):
                first, second = (ConvNormAct(w, hidden, 3, activation=nn.SiLU) for w in (width, hidden))
                last = nn.Conv2d(hidden, outputs, 1)
                self.add_module(f"{name}{i}", chain([("first", first), ("second", second), ("last", last)]))
        self.steps: Tensor
        self.register_buffer("steps", torch.arange(float(BINS)), persistent=False)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map maps (B, C, H, W) to corners in pixels and class scores in [0, 1], (B, 4 + classes, cells)."""
        corners, scores = [], []
        for i, (x, stride) in enumerate(zip(maps, STRIDES, strict=True)):
            sides = getattr(self, f"box{i}")(x).unflatten(1, (4, BINS)).softmax(2)
            left, up, right, down = (sides * self.steps[:, None, None]).sum(2).unbind(1)
            across, along = (torch.arange(n, device=x.device, dtype=x.dtype) + 0.5 for n in (x.shape[3], x.shape[2]))
            box = [across - left, along[:, None] - up, across + right, along[:, None] + down]
            corners.append(stride * torch.stack(box, 1).flatten(2))
            scores.append(getattr(self, f"score{i}")(x).sigmoid().flatten(2))
        return torch.cat([torch.cat(corners, 2), torch.cat(scores, 2)], 1)


class Detector(nn.Module):
    """Parts that read the maps which earlier parts wrote, and a head on the last three levels."""

    def __init__(self, rows: Sequence[Row], head: Head) -> None:
        """Put together the rows of a layout; the head reads the maps out3, out4 and out5."""
        super().__init__()
        self.reads = [(name, tuple(sources)) for name, sources, _ in rows]
        for name, _, part in rows:
            self.add_module(name, part)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to boxes with scores (B, 4 + classes, cells)."""
        maps = {"image": x}
        for name, sources in self.reads:
            found = [maps[s] for s in sources]
            maps[name] = getattr(self, name)(torch.cat(found, 1) if len(found) > 1 else found[0])
        return self.head([maps[f"out{level}"] for level in (3, 4, 5)])


@dataclass
class Plan:
    """A layout while it is written down, with the factors on its repeats and channels."""

    depth: float
    width: float
    cap: int
    act: Act
    wide: dict[str, int]
    """Channels of every map."""
    rows: list[Row] = field(default_factory=list)

    def repeats(self, count: int) -> int:
        """Scale a number of blocks; one block stays one."""
        return max(1, round(count * self.depth)) if count > 1 else count

    def channels(self, count: int) -> int:
        """Scale a number of channels, in multiples of 8."""
        return max(1, ceil(min(count, self.cap) * self.width / 8)) * 8

    def add(self, name: str, sources: str, outputs: int, make: Callable[..., nn.Module], *more: Any) -> str:
        """Add a part that reads some maps, named in one string, with its channels before they are scaled."""
        read, out = sources.split(), self.channels(outputs)
        self.rows.append((name, read, make(sum(self.wide[s] for s in read), out, *more)))
        self.wide[name] = out
        return name

    def conv(self, name: str, sources: str, outputs: int, kernel: int = 1, stride: int = 1) -> str:
        """Add a convolution with normalisation and activation."""
        return self.add(name, sources, outputs, ConvNormAct, kernel, stride, 1, self.act)

    def grow(self, name: str, source: str) -> str:
        """Add a doubling of the size."""
        self.rows.append((name, [source], nn.Upsample(scale_factor=2.0)))
        self.wide[name] = self.wide[source]
        return name


def darknet(p: Plan, stage: Callable[[str, str, int, int], str]) -> str:
    """Write the body of versions 3 and 4: five halvings, each with its blocks."""
    last = p.conv("stem", "image", 32, 3)
    for i, (width, count) in enumerate(((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)), 1):
        last = stage(f"stage{i}", p.conv(f"down{i}", last, width, 3, 2), width, p.repeats(count))
    return last


def version3(p: Plan) -> None:
    """Write Darknet-53, and six convolutions of sides 1 and 3 in turn on each level of a pyramid."""

    def stage(name: str, source: str, width: int, count: int) -> str:
        return p.add(name, source, width, lambda i, o: bottlenecks(i, o // 2, count, 1, True, p.act))

    last = darknet(p, stage)
    for level, width in ((5, 1024), (4, 512), (3, 256)):
        if level < 5:
            last = f"{p.grow(f'grow{level}', p.conv(f'bring{level}', last, width // 2))} stage{level}"
        names = [f"conv{level}_{j}" for j in range(2 * p.repeats(2) + 1 if level == 3 else 5)]
        for j, name in enumerate(names):
            last = p.conv(name, last, width if j % 2 else width // 2, 3 if j % 2 else 1)
        p.conv(f"out{level}", last, width, 3)


def version4(p: Plan) -> None:
    """Write Darknet with partial stages, and a partial pyramid up and down."""

    def stage(name: str, source: str, width: int, count: int) -> str:
        if width == 64:
            return p.add(name, source, width, lambda i, o: bottlenecks(i, o // 2, 1, 1, True, p.act))
        return p.add(name, source, width, PlainPartial, count, True, p.act)

    last = p.add("up5", darknet(p, stage), 512, PartialPyramid, True, p.act)
    for level, width in ((4, 256), (3, 128)):
        grown = p.grow(f"grow{level}", p.conv(f"bring{level}", last, width))
        bridge = p.conv(f"bridge{level}", f"stage{level}", width)
        last = p.add(f"up{level}", f"{bridge} {grown}", width, PlainPartial, p.repeats(2), False, p.act)
    for level, width in ((3, 128), (4, 256), (5, 512)):
        if level > 3:
            both = f"{p.conv(f'shrink{level}', last, width, 3, 2)} up{level}"
            last = p.add(f"neck{level}", both, width, PlainPartial, p.repeats(2), False, p.act)
        p.conv(f"out{level}", last, 2 * width, 3)


def versions5and8(p: Plan, is8: bool) -> None:
    """Write four stages of partial blocks, and the same blocks up and down a pyramid."""

    def stage(name: str, sources: str, width: int, count: int, shortcut: bool) -> str:
        if is8:
            return p.add(name, sources, width, Split, p.repeats(count), shortcut, p.act)
        return p.add(name, sources, width, Partial, p.repeats(count), shortcut, 1, 0.5, p.act)

    last = p.conv("stem", "image", 64, 3, 2) if is8 else p.add("stem", "image", 64, stem6, p.act)
    for i, (width, count) in enumerate(((128, 3), (256, 6), (512, 6 if is8 else 9), (1024, 3)), 2):
        last = stage(f"stage{i}", p.conv(f"down{i}", last, width, 3, 2), width, count, True)
    last = p.add("pyramid", last, 1024, Pyramid, p.act)
    inside = {5: last if is8 else p.conv("turn5", last, 512)}
    up4 = stage("up4", f"{p.grow('grow4', inside[5])} stage4", 512, 3, False)
    inside[4] = up4 if is8 else p.conv("turn4", up4, 256)
    last = stage("out3", f"{p.grow('grow3', inside[4])} stage3", 256, 3, False)
    for level, width in ((4, 256), (5, 512)):
        down = p.conv(f"shrink{level}", last, width, 3, 2)
        last = stage(f"out{level}", f"{down} {inside[level]}", 2 * width, 3, False)


def version6(p: Plan, share: float) -> None:
    """Write stages of plain convolutions (6s, without a share), or of partial blocks of such (6m, 6l)."""

    def stage(name: str, sources: str, width: int, count: int) -> str:
        n = p.repeats(count)
        if share:
            return p.add(name, sources, width, Partial, max(1, n // 2), True, 3, share, p.act)
        return p.add(name, sources, width, plain, n, p.act)

    last = p.conv("stem", "image", 64, 3, 2)
    for i, (width, count) in enumerate(((128, 6), (256, 12), (512, 18), (1024, 6)), 2):
        last = stage(f"stage{i}", p.conv(f"down{i}", last, width, 3, 2), width, count)
    last = p.add("pyramid", last, 1024, Pyramid, p.act)
    for level, width in ((4, 256), (3, 128)):
        turned = p.conv(f"turn{level + 1}", last, width)
        grown = p.add(f"grow{level}", turned, width, nn.ConvTranspose2d, 2, 2)
        last = stage(f"up{level}" if level > 3 else "out3", f"{grown} stage{level}", width, 12)
    for level, width in ((4, 128), (5, 256)):
        both = f"{p.conv(f'shrink{level}', last, width, 3, 2)} turn{level}"
        last = stage(f"out{level}", both, 2 * width, 12)


def version7(p: Plan) -> None:
    """Write stages that join some of their convolutions, halvings by two ways, and a pyramid up and down."""

    def stage(name: str, sources: str, outputs: int, hidden: int, width: int, every: int) -> str:
        return p.add(name, sources, outputs, Aggregated, p.channels(hidden), p.channels(width), every, p.act)

    last = p.conv("down1", p.conv("stem", "image", 32, 3), 64, 3, 2)
    last = p.conv("down2", p.conv("conv1", last, 64, 3), 128, 3, 2)
    for i, (width, outputs) in enumerate(((64, 256), (128, 512), (256, 1024), (256, 1024)), 2):
        if i > 2:
            last = p.add(f"down{i}", last, (256, 512, 1024)[i - 3], Shrink, p.act)
        last = stage(f"stage{i}", last, outputs, width, width, 2)
    last = p.add("up5", last, 512, PartialPyramid, False, p.act)
    for level, width in ((4, 256), (3, 128)):
        grown = p.grow(f"grow{level}", p.conv(f"bring{level}", last, width))
        both = f"{p.conv(f'bridge{level}', f'stage{level}', width)} {grown}"
        last = stage(f"up{level}", both, width, width, width // 2, 1)
    for level, width in ((3, 128), (4, 256), (5, 512)):
        if level > 3:
            both = f"{p.add(f'shrink{level}', last, width, Shrink, p.act)} up{level}"
            last = stage(f"neck{level}", both, width, width, width // 2, 1)
        p.conv(f"out{level}", last, 2 * width, 3)


LAYOUTS: dict[str, Callable[[Plan], None]] = {
    "3": version3,
    "4": version4,
    "5": partial(versions5and8, is8=False),
    "6s": partial(version6, share=0.0),
    "6m": partial(version6, share=2 / 3),
    "6l": partial(version6, share=0.5),
    "7": version7,
    "8": partial(versions5and8, is8=True),
}


@space(shaped={"image": "resolutions", "channels": "channels"})
def yolo(
    pick: Pick,
    versions: Sequence[str] = tuple(LAYOUTS),
    depths: Sequence[float] = (0.33, 0.6, 0.67, 1.0),
    widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    resolutions: Sequence[int] = (160,),
    base: float = 1.0,
    classes: int = 80,
    channels: int = 3,
) -> tuple[nn.Module, tuple[int, ...]]:
    """Build a detector with picked layout, factors on repeats and channels, and image side.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        versions: Options for the layout.
        depths: Options for the factor on the repeats of blocks.
        widths: Options for the factor on channels.
        resolutions: Image sides in pixels to choose among, multiples of 32; one alone is no choice.
        base: Factor on all channels beside the chosen one; 1 gives the published ones.
        classes: Number of kinds of objects; the default is COCO's, that of VOC is 20.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images to boxes with scores (B, 4 + classes, cells), and the shape (1, channels, side, side) of
        its input.

    Raises:
        SpaceError: an image side is not a multiple of 32, so that the levels of the pyramid would not meet.
    """
    odd = [side for side in resolutions if side % STRIDES[-1]]
    if odd:
        raise SpaceError(f"resolutions expected multiples of {STRIDES[-1]}, got {odd[0]}.\n  Round to such a side.")
    version = pick("version", tuple(versions))
    depth = pick("depth", tuple(depths)) if version != "7" else 1.0
    width = pick("width", tuple(widths))
    side = pick("resolution", tuple(resolutions)) if len(resolutions) > 1 else resolutions[0]
    cap = 1024 if version != "8" or depth < 0.5 else 768 if depth < 1 else 512
    plan = Plan(depth, base * width, cap, nn.ReLU if version in {"6s", "6m"} else nn.SiLU, {"image": channels})
    LAYOUTS[version](plan)
    head = Head([plan.wide[f"out{level}"] for level in (3, 4, 5)], classes)
    return Detector(plan.rows, head), (1, channels, side, side)


@yolo.parser
def parse(text: str) -> dict[str, Option]:
    """Read YOLOBench's names, such as yolo5n or yolo6l-d33w5, perhaps with @ and the image side behind."""
    found = re.fullmatch(r"yolo(3|4|5|6[sml]|7|8)(?:([nsml])|-?d(\d+)w(\d+))(?:@(\d+))?", text.strip())
    if not found:
        raise SpaceError(f"expected a name such as yolo8n, yolo6l-d33w5 or yolo5n@320, got {text[:80]!r}.\n  Mend it.")
    version, letter, deep, wide, side = found.groups()
    depth, width = FACTORS[letter] if letter else (_factor(deep), _factor(wide))
    choices: dict[str, Option] = {"version": version, "depth": depth, "width": width}
    if version == "7":
        del choices["depth"]
    return choices | ({"resolution": int(side)} if side else {})


def _factor(digits: str) -> float:
    """Read 1 as one, and 33 as .33."""
    return 1.0 if digits == "1" else float(f"0.{digits}")


@yolo.formatter
def format_name(choices: Mapping[str, Option]) -> str:
    """Write YOLOBench's name with both factors, and the image side where it is a choice."""
    deep, wide = (f"{choices.get(k, 1.0):g}".removeprefix("0.") for k in ("depth", "width"))
    version = choices["version"]
    name = f"yolo{version}{'-' if str(version).startswith('6') else ''}d{deep}w{wide}"
    return f"{name}@{choices['resolution']}" if "resolution" in choices else name


@yolo.row_reader("base", "depth_mul", "width_mul", "img_size")
def from_row(row: Mapping[str, str]) -> str:
    """Read YOLOBench's columns as the encoding that `parse` reads."""
    deep, wide = (f"{float(row[k]):g}".removeprefix("0.") for k in ("depth_mul", "width_mul"))
    return f"{row['base']}-d{deep}w{wide}@{row['img_size']}"
