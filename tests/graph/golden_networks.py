"""The published networks whose computation graphs are known, built from their configurations as the publications describe them.

Source: GENNAPE, Mills et al., AAAI 2023, arXiv:2211.17226, and AutoGO (Ascend-Research/AutoGO) for the configurations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Act = Callable[[], nn.Module]


def conv(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int] = 3,
    stride: int | tuple[int, int] = 1,
    act: Act | None = nn.ReLU,
    **more: object,
) -> nn.Sequential:
    """Convolution, batch normalisation, activation."""
    k = (kernel, kernel) if isinstance(kernel, int) else kernel
    parts: list[nn.Module] = [
        nn.Conv2d(
            inputs,
            outputs,
            k,
            stride,
            (k[0] // 2, k[1] // 2),
            bias=bool(more.get("bias")),
            groups=int(more.get("groups", 1)),
        )
    ]  # type: ignore[call-overload]
    parts.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*parts, *([act()] if act else []))


def separable(
    inputs: int, outputs: int, kernel: int, stride: int = 1, split: bool = False, bias: bool = False
) -> nn.Sequential:
    """1×k then k×1, each with batch normalisation and ReLU6."""
    first, second = ((1, stride), (stride, 1)) if split else ((stride, stride), (1, 1))
    return nn.Sequential(
        conv(inputs, outputs, (1, kernel), first, nn.ReLU6, bias=bias),
        conv(outputs, outputs, (kernel, 1), second, nn.ReLU6, bias=bias),
    )


class Head(nn.Module):
    """Mean over places, a silent module where there is one, a linear layer."""

    def __init__(self, channels: int, classes: int, silent: bool = False) -> None:
        super().__init__()
        self.silent = nn.Dropout(0.0) if silent else None
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3))
        return self.fc(self.silent(x) if self.silent is not None else x)


# -- HiAML: [src1, src1, r30, src3] -------------------------------------------------------------------------------------


class Src1(nn.Module):
    def __init__(self, c: int, o: int, s: int) -> None:
        super().__init__()
        self.a, self.b = conv(c, o, 1, s), nn.Sequential(conv(c, c), conv(c, o, 3, s, None))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x) + self.b(x))


class R30(nn.Module):
    def __init__(self, c: int, o: int, s: int) -> None:
        super().__init__()
        self.a, self.b, self.c = separable(c, o, 3, s), conv(o, o, 1, 1, None), separable(o, o, 3)
        self.p1, self.p2 = (conv(c, o, 1, s, None) if s > 1 or c != o else nn.Sequential() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        return torch.relu(self.p2(x) + self.b(self.p1(x) + a) + self.c(a))


class Src3(nn.Module):
    def __init__(self, c: int, o: int, s: int) -> None:
        super().__init__()
        self.a = conv(c, o, 1, s, None)
        self.b = nn.Sequential(conv(c, c, 1), conv(c, o, 3, s), conv(o, o, 1, 1, None))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x) + self.b(x))


def hiaml() -> nn.Module:
    widths, kinds, strides = (64, 64, 128, 128, 256), (Src1, Src1, R30, Src3), (1, 2, 1, 2)
    stages = [
        nn.Sequential(kind(widths[i], widths[i + 1], s), kind(widths[i + 1], widths[i + 1], 1))
        for i, (kind, s) in enumerate(zip(kinds, strides, strict=True))
    ]
    return nn.Sequential(conv(3, 64, 3, 2), *stages, Head(256, 10))


# -- Two-Path -----------------------------------------------------------------------------------------------------------


def supplement(c: int, o: int, s: int) -> nn.Module:
    """conv1x1."""
    return conv(c, o, 1, s, nn.ReLU6)


class Block(nn.Module):
    """A sequence with a shortcut where sizes allow."""

    def __init__(self, ops: Sequence[Callable[[int, int, int], nn.Module]], c: int, o: int, s: int) -> None:
        super().__init__()
        parts = []
        for op in ops:
            if op is supplement:  # keeps what it gets; the first convolution carries stride and width
                parts.append(op(c, c, 1))
                continue
            parts.append(op(c, o, s))
            c, s = o, 1
        self.body = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y if x.shape == y.shape else y


def _bottleneck(factor: float, kernel: int) -> Callable[[int, int, int], nn.Module]:
    return lambda c, o, s: nn.Sequential(
        conv(c, int(c * factor), kernel, s, None), conv(int(c * factor), o, kernel, 1, None)
    )


def two_path() -> nn.Module:
    c5 = lambda c, o, s: conv(c, o, 5, s, nn.ReLU6)  # noqa: E731
    d3 = lambda c, o, s: nn.Sequential(conv(c, c, 3, s, nn.ReLU6), conv(c, o, 3, 1, nn.ReLU6))  # noqa: E731
    e3, e1, r3 = _bottleneck(2, 3), _bottleneck(2, 1), _bottleneck(0.5, 3)

    class TwoPath(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(conv(3, 32, 3, 1, nn.ReLU6), conv(32, 32, 3, 2, nn.ReLU6))
            self.one = nn.Sequential(Block([c5], 32, 64, 2), Block([c5], 64, 128, 2))
            self.two = nn.Sequential(
                Block([d3, e3], 32, 32, 1),
                Block([supplement, r3], 32, 64, 2),
                Block([e3, r3, e1], 64, 64, 1),
                Block([r3], 64, 128, 2),
            )
            self.last, self.head = conv(256, 512, 3, 1, nn.ReLU6), Head(512, 10, silent=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(self.last(torch.cat([self.one(x), self.two(x)], 1)))

    return TwoPath()


# -- NAS-Bench-201: |nor3x3~0| + |nor3x3~0|nor3x3~1| + |skip~0|nor3x3~1|nor1x1~2| -----------------------------------------


class Cell201(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()

        def op(kernel: int) -> nn.Module:
            return nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(c))

        self.a, self.b, self.c, self.d, self.e, self.f = op(3), op(3), op(3), nn.Identity(), op(3), op(1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.a(x)
        two = self.b(x) + self.c(one)
        return self.d(x) + self.e(one) + self.f(two)


class Reduction201(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(c, 2 * c, 3, 2, 1, bias=False)
        )
        self.short = nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.Conv2d(c, 2 * c, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.short(x) + self.body(x))


def nasbench201() -> nn.Module:
    stages = [nn.Sequential(*(Cell201(c) for _ in range(5))) for c in (16, 32, 64)]
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
    return nn.Sequential(
        stem, stages[0], Reduction201(16), stages[1], Reduction201(32), stages[2], Head(64, 10, silent=True)
    )


# -- NAS-Bench-101: in→1,2,out; 1→3,5; 2→5; 3→4; 4→5; 5→out; 1, 2, 4, 5 convolutions 3×3, 3 a max pool ---------------------


class Module101(nn.Module):
    def __init__(self, c: int, o: int) -> None:
        super().__init__()
        self.p1, self.p2, self.pout = conv(c, o, 1), conv(c, o, 1), conv(c, o, 1)
        self.c1, self.c2, self.c4, self.c5 = (conv(o, o) for _ in range(4))
        self.pool = nn.MaxPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.c1(self.p1(x)), self.c2(self.p2(x))
        four = self.c4(self.pool(one))
        five = self.c5(torch.stack([one, two, four]).sum(0))  # one sum of three terms
        return five + self.pout(x)


def nasbench101() -> nn.Module:
    parts: list[nn.Module] = [conv(3, 128)]
    c = 128
    for stack, o in enumerate((128, 256, 512)):
        if stack:
            parts.append(nn.MaxPool2d(2, 2))
        for _ in range(3):
            parts.append(Module101(c, o))
            c = o
    return nn.Sequential(*parts, Head(512, 10))


# -- Inception ----------------------------------------------------------------------------------------------------------


class InceptionP(nn.Module):
    """1×k and k×1 side by side, each to half the width; with stride 2 each is two convolutions."""

    def __init__(self, c: int, o: int, k: int, s: int) -> None:
        super().__init__()
        pair = ((1, k), (k, 1)) if s == 1 else None
        if pair:
            self.a, self.b = (conv(c, o // 2, kernel, 1, None, bias=True) for kernel in pair)
        else:
            self.a = nn.Sequential(
                conv(c, o // 2, (1, k), (1, s), None, bias=True), conv(o // 2, o // 2, (k, 1), (s, 1), None, bias=True)
            )
            self.b = nn.Sequential(
                conv(c, o // 2, (k, 1), (s, 1), None, bias=True), conv(o // 2, o // 2, (1, k), (1, s), None, bias=True)
            )
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(torch.cat([self.a(x), self.b(x)], 1))


def _inception_op(name: str, c: int, o: int, s: int) -> nn.Module:
    kernel = 5 if "5" in name else 3 if "3" in name else 1
    if name.startswith("conv"):
        return conv(c, o, kernel, s, nn.ReLU6, bias=True)
    if name == "double1x1":
        return nn.Sequential(conv(c, o, 1, 1, nn.ReLU6, bias=True), conv(o, o, 1, 1, nn.ReLU6, bias=True))
    if name.startswith("depthwise"):
        before = [nn.Conv2d(c, o, 1, bias=False)] if c != o else []
        return nn.Sequential(*before, conv(o, o, kernel, s, nn.ReLU6, bias=True, groups=o))
    if name.startswith("inception_s"):
        return separable(c, o, kernel, s, split=True, bias=True)
    return InceptionP(c, o, kernel, s)


def _path(names: Sequence[str], c: int, inner: int, o: int, s: int) -> nn.Module:
    parts = []
    for i, name in enumerate(names):
        width = o if i == len(names) - 1 else inner if i == 0 else c
        parts.append(_inception_op(name, c, width, s if i == 0 else 1))
        c = width
    return nn.Sequential(*parts)


class InceptionBlock(nn.Module):
    def __init__(self, paths: Sequence[tuple[Sequence[str], int, int]], c: int, o: int, s: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(_path(names, c, inner, width, s) for names, inner, width in paths)
        total = sum(width for _, _, width in paths)
        self.project = conv(total, o, 1, 1, None, bias=True) if total != o else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        found = [p(x) for p in self.paths]
        y = self.project(torch.cat(found, 1) if len(found) > 1 else found[0])
        return x + y if x.shape == y.shape else y


LONG = (
    "conv5x5 inception_p5x5 conv1x1 conv3x3 inception_s3x3 conv5x5 inception_s3x3 depthwise5x5 inception_p3x3 inception_s5x5 depthwise5x5"
).split()


def inception() -> nn.Module:
    stages: list[tuple[int, int, int, list[tuple[Sequence[str], int, int]]]] = [
        (6, 32, 1, [(["depthwise5x5"], 16, 16), (["inception_s3x3"], 16, 16), (["depthwise5x5", "conv5x5"], 16, 16)]),
        (2, 64, 2, [(["conv5x5", "double1x1"], 128, 64)]),
        (5, 128, 2, [(["conv3x3"], 128, 128)]),
        (
            3,
            256,
            2,
            [
                (["inception_s5x5"], 64, 64),
                (LONG, 32, 64),
                (["inception_p3x3", "inception_s3x3"], 32, 64),
                (["inception_s3x3"], 64, 64),
            ],
        ),
    ]
    parts: list[nn.Module] = [conv(3, 32, 3, 1, nn.ReLU6, bias=True)]
    c = 32
    for n, o, s, paths in stages:
        for i in range(n):
            parts.append(InceptionBlock(paths, c, o, s if i == 0 else 1))
            c = o
    return nn.Sequential(*parts, conv(256, 512, 3, 1, nn.ReLU6, bias=True), Head(512, 10, silent=True))


# -- VGG-16 with batch normalisation, a mean instead of the hidden linear layers -------------------------------------------


def vgg16() -> nn.Module:
    parts: list[nn.Module] = []
    c = 3
    for width, n in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(n):
            parts.append(conv(c, width, 3, 1, nn.ReLU, bias=True))
            c = width
        parts.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*parts, Head(512, 1000))


# -- ResNet-50 as stored: thirteen blocks, max pools between the stages, convolutions as classifier --------------------------


class Bottleneck(nn.Module):
    def __init__(self, c: int, hidden: int, o: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(c, hidden, 1, bias=True), conv(hidden, hidden, 3, bias=True), conv(hidden, o, 1, 1, None, bias=True)
        )
        self.project = conv(c, o, 1, 1, None, bias=True) if c != o else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.project(x) + self.body(x))


def resnet50() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2))
    parts: list[nn.Module] = [stem]
    c = 64
    for stage, (hidden, n) in enumerate(((64, 2), (128, 3), (256, 5), (512, 3))):
        if stage:
            parts += [nn.MaxPool2d(1, 2), nn.ReLU()]
        for _ in range(n):
            parts.append(Bottleneck(c, hidden, 4 * hidden))
            c = 4 * hidden
    return nn.Sequential(*parts, nn.AvgPool2d(7), nn.Conv2d(c, 1000, 1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "hiaml_best": (hiaml, (1, 3, 32, 32)),
    "two_path_best": (two_path, (1, 3, 32, 32)),
    "nb201_best": (nasbench201, (1, 3, 32, 32)),
    "nb101_best": (nasbench101, (1, 3, 32, 32)),
    "inception_best": (inception, (1, 3, 32, 32)),
    "vgg__vgg16_bn": (vgg16, (1, 3, 224, 224)),
    "resnet50__resnet50": (resnet50, (1, 3, 224, 224)),
}
"""By the name of the published file."""
