"""Inception: four stages, each a block of one to four parallel paths of operations, repeated two to six times.

Source: Mills et al., AAAI 2023, arXiv:2211.17226 (GENNAPE), families made public with it. A block of n paths has at
most 4 n operations; a path has at least one of the first kind and at most one of the second. Paths share the block's
width equally; of three, one takes half. The published best network has 3.538 M parameters, 493.9 M FLOPs and 403 nodes
here too. The paper's text says three stages of two to four blocks, which that network contradicts; it, and the larger
of the two budgets in the authors' code, are followed. Lengths, operations and inner widths are drawn uniformly (the
authors prefer an inner width of `same`, 6 of 10, over `half`, 3, and `double`, 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import Classifier, ConvNormAct, Separable, chain

MAIN = (
    "conv3x3",
    "conv5x5",
    "depthwise3x3",
    "depthwise5x5",
    "inception_s3x3",
    "inception_s5x5",
    "inception_p3x3",
    "inception_p5x5",
)
"""Operations that may change size and width."""
EXTRA = ("conv1x1", "double1x1", "avgpool3x3", "maxpool3x3")
"""At most one of these a path; the first two may change the width."""
INNER = {"half": 0.5, "same": 1.0, "double": 2.0}
"""Width between the first and the last operation that may change it, over the width of the path."""
STRIDES = (1, 2, 2, 2)

PathPlan = tuple[tuple[str, ...], int, int]
"""Operations, inner width, width."""


def with_bias(inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int]) -> list[nn.Module]:
    """Build a padded convolution with bias and its batch normalisation."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.BatchNorm2d(outputs)]


@block
class Sides(nn.Module):
    """1 x k and k x 1 side by side, half of the channels each; each followed by the other where the size is halved."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        """Build both convolutions, and behind them those that halve the other axis where the stride is 2."""
        super().__init__()
        half, s = outputs // 2, stride
        across, down = (1, kernel), (kernel, 1)
        self.first = nn.Sequential(*with_bias(inputs, half, across, (1, s)))
        self.second = nn.Sequential(*with_bias(inputs, half, down, (s, 1)))
        if stride > 1:
            self.first.extend(with_bias(half, half, down, (s, 1)))
            self.second.extend(with_bias(half, half, across, (1, s)))
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return self.act(torch.cat([self.first(x), self.second(x)], 1))


@block
class Double(nn.Sequential):
    """Two convolutions; the first may change the width."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        """Build both convolutions with bias and ReLU6."""
        super().__init__()
        self.first = ConvNormAct(inputs, outputs, kernel, activation=nn.ReLU6, bias=True)
        self.second = ConvNormAct(outputs, outputs, kernel, activation=nn.ReLU6, bias=True)


def operation(name: str, inputs: int, outputs: int, stride: int) -> nn.Module:
    """Build an operation by its name in `MAIN` or `EXTRA`."""
    k = int(name[-1])
    if name.startswith("inception_s"):
        return Separable(inputs, outputs, k, stride, bias=True, split=True)
    if name.startswith("inception_p"):
        return Sides(inputs, outputs, k, stride)
    if name.startswith("double"):
        return Double(inputs, outputs, k)
    if name.startswith("depthwise"):
        layer = ConvNormAct(outputs, outputs, k, stride, groups=outputs, activation=nn.ReLU6, bias=True)
        if inputs == outputs:
            return layer
        return chain([("widen", nn.Conv2d(inputs, outputs, 1, bias=False)), ("depthwise", layer)])
    if name.endswith("pool3x3"):
        pool = nn.MaxPool2d(k, 1, k // 2) if name.startswith("max") else nn.AvgPool2d(k, 1, k // 2)
        return chain([("pool", pool), ("norm", nn.BatchNorm2d(inputs))])
    return ConvNormAct(inputs, outputs, k, stride, activation=nn.ReLU6, bias=True)


def widening(ops: tuple[str, ...]) -> list[int]:
    """Find the places of the operations that may change the width."""
    return [i for i, name in enumerate(ops) if "pool" not in name]


@block
class Block(nn.Module):
    """Paths side by side; projected where their widths do not add up; a shortcut where size and width stay."""

    # an operation's place tells its name, so that a depthwise convolution shares the first column of a dense one's
    slicing: ClassVar = {"*": "leading"}

    def __init__(self, paths: tuple[PathPlan, ...], inputs: int, outputs: int, stride: int) -> None:
        """Build all paths; in each the first main operation has the stride."""
        super().__init__()
        self.paths = nn.ModuleList()
        for ops, inner, width in paths:
            path, last = nn.Sequential(), inputs
            able = widening(ops)
            reducing = next(i for i, name in enumerate(ops) if name in MAIN)
            for i, name in enumerate(ops):
                to = width if i == able[-1] else inner if i == able[0] else last
                path.add_module(f"op{i}", operation(name, last, to, stride if i == reducing else 1))
                last = to
            self.paths.append(path)
        total = sum(width for _, _, width in paths)
        # an Identity would be a node of the published graphs
        same = total == outputs
        self.project = nn.Sequential() if same else ConvNormAct(total, outputs, 1, activation=None, bias=True)
        self.has_shortcut = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        found = [path(x) for path in self.paths]
        y = self.project(torch.cat(found, 1) if len(found) > 1 else found[0])
        return x + y if self.has_shortcut else y


@space(
    example_input=lambda width=32, depths=(), stages=4, budget=4, stem_stride=1, classes=10, image=32, channels=3: (
        (1, channels, image, image)
    ),
)
def inception(
    pick: Pick,
    width: int | Sequence[int] = 32,
    depths: Any = (2, 3, 4, 5, 6),
    stages: int = 4,
    budget: int = 4,
    stem_stride: int = 1,
    classes: int = 10,
    image: int = 32,
    channels: int = 3,
) -> nn.Module:
    """Build the Inception network with picked repetitions, paths and operations of each stage's block.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        width: Channels of the stem, or the widths to choose among, multiples of 4; the published 32. No path is
            narrower than
            half of it.
        depths: Options for the repetitions of a block; the published 2 to 6.
        stages: Number of stages, at most 4; the published 4.
        budget: Operations that a block may have for each of its paths; the published 4.
        stem_stride: Stride of the stem; the published 1.
        classes: Number of classes that the head tells apart; the default is CIFAR-10's.
        image: Side of the square input images in pixels; the default is CIFAR-10's.
        channels: Channels of the input images; 3 for colour.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).

    Raises:
        SpaceError: a width is no multiple of 4.
    """
    if wrong := [w for w in ([width] if isinstance(width, int) else width) if w < 4 or w % 4]:
        raise SpaceError(
            f"expected widths that are multiples of 4 (paths halve them twice), got {wrong}.\n  Try 8, 16 or 32."
        )
    stem: int = width if isinstance(width, int) else pick("width", tuple(width))
    plans: list[tuple[int, tuple[PathPlan, ...]]] = []
    for s in range(stages):
        repeats = pick(f"stage{s}.blocks", tuple(depths))
        n = pick(f"stage{s}.paths", (1, 2, 3, 4))
        outputs = stem * 2**s
        shares = [outputs // n if n != 3 else outputs // 4] * n
        if n == 3:
            shares[pick(f"stage{s}.wide_path", (0, 1, 2))] = outputs // 2
        left, paths = budget * n, []
        for p in range(n):
            at, most = f"stage{s}.path{p}", left - (n - 1 - p)
            length = pick(f"{at}.length_of_{most}", tuple(range(1, most + 1))) if most > 1 else 1
            left -= length
            extra_at = pick(f"{at}.extra_at_of_{length}", ("none", *map(str, range(length)))) if length > 1 else "none"
            extra = pick(f"{at}.extra", EXTRA) if extra_at != "none" else ""
            changes = length - ("pool" in extra)
            inner = pick(f"{at}.inner", tuple(INNER)) if changes > 1 else "same"
            ops = tuple(extra if str(i) == extra_at else pick(f"{at}.main{i}", MAIN) for i in range(length))
            own = max(stem // 2, shares[p])
            paths.append((ops, max(stem // 2, int(own * INNER[inner])), own))
        plans.append((repeats, tuple(paths)))
    parts: list[tuple[str, nn.Module]] = [
        ("stem", ConvNormAct(channels, stem, 3, stem_stride, activation=nn.ReLU6, bias=True))
    ]
    inputs = stem
    for s, (repeats, plan) in enumerate(plans):
        for i in range(repeats):
            parts.append((f"stage{s}_block{i}", Block(plan, inputs, stem * 2**s, STRIDES[s] if i == 0 else 1)))
            inputs = stem * 2**s
    parts.append(("last", ConvNormAct(inputs, inputs * 2, 3, activation=nn.ReLU6, bias=True)))
    return chain([*parts, ("head", Classifier(inputs * 2, classes, dropout=0.0))])


STAGE = re.compile(r"(\d+)x\[([^\[\]]+)\]")
PATH = re.compile(r"([a-z0-9_,]+)(!?)(?:@(half|same|double))?")


@inception.parser
def parse(text: str, budget: int = 4) -> dict[str, Option]:
    """Read stages joined by |, each `repetitions x[paths]`; paths are joined by +, their operations by a comma.

    `!` marks the wide one of three paths, `@` the inner width. A chosen width comes first, as in `8:2x[conv3x3]`.
    """
    width, colon, stages = text.strip().rpartition(":")
    found: dict[str, Option] = {"width": int(width)} if width.isdigit() else {}
    for s, stage in enumerate((stages if found or not colon else text).split("|")):
        match = STAGE.fullmatch(stage)
        paths = [PATH.fullmatch(path) for path in match[2].split("+")] if match else []
        if match is None or any(path is None for path in paths):
            raise SpaceError(
                f"expected stages such as '2x[conv5x5,double1x1@double]' joined by |, got {stage[:80]!r}.\n"
                "  Write one a stage."
            )
        n = len(paths)
        found |= {f"stage{s}.blocks": int(match[1]), f"stage{s}.paths": n}
        found |= {f"stage{s}.wide_path": p for p, path in enumerate(paths) if path and path[2]}
        left = budget * n
        for p, path in enumerate(paths):
            assert path is not None
            at, ops = f"stage{s}.path{p}", path[1].split(",")
            if (most := left - (n - 1 - p)) > 1:
                found[f"{at}.length_of_{most}"] = len(ops)
            left -= len(ops)
            extras = [str(i) for i, name in enumerate(ops) if name in EXTRA]
            if len(ops) > 1:
                found[f"{at}.extra_at_of_{len(ops)}"] = extras[0] if extras else "none"
            found |= {f"{at}.extra" if str(i) in extras[:1] else f"{at}.main{i}": name for i, name in enumerate(ops)}
            if path[3]:
                found[f"{at}.inner"] = path[3]
    return found


@inception.formatter
def format_stages(choices: Mapping[str, Option]) -> str:
    """Write the stages in the notation that `parse` reads."""
    stages, s = [], 0
    while f"stage{s}.blocks" in choices:
        paths = []
        for p in range(int(choices[f"stage{s}.paths"])):
            at = f"stage{s}.path{p}"
            of = [name for name in choices if name.startswith(f"{at}.length_of_")]
            length = int(choices[of[0]]) if of else 1
            ops = [str(choices.get(f"{at}.main{i}", choices.get(f"{at}.extra"))) for i in range(length)]
            wide = "!" if choices.get(f"stage{s}.wide_path") == p else ""
            inner = f"@{choices[f'{at}.inner']}" if f"{at}.inner" in choices else ""
            paths.append(",".join(ops) + wide + inner)
        stages.append(f"{choices[f'stage{s}.blocks']}x[{'+'.join(paths)}]")
        s += 1
    return (f"{choices['width']}:" if "width" in choices else "") + "|".join(stages)


@inception.encoding_count
def encodings(width: int | Sequence[int] = 32, depths: Any = (2, 3, 4, 5, 6), stages: int = 4, budget: int = 4) -> int:
    """By the lengths of the paths; a single operation has neither place nor inner width to choose."""

    @cache
    def paths(n: int, left: int) -> int:
        return sum(one(length) * paths(n - 1, left - length) for length in range(1, left - n + 2)) if n else 1

    def one(length: int) -> int:
        main = len(MAIN)
        if length == 1:
            return main
        pools = 2 * (len(INNER) if length > 2 else 1)
        return len(INNER) * main**length + length * main ** (length - 1) * (2 * len(INNER) + pools)

    stage = len(depths) * sum((3 if n == 3 else 1) * paths(n, budget * n) for n in (1, 2, 3, 4))
    return (1 if isinstance(width, int) else len(width)) * stage**stages
