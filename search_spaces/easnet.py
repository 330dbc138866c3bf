"""EASNet: elastic stereo matching by a feature pyramid, correlation volumes and their aggregation over scales.

Source: Wang et al., ECCV 2022, arXiv:2207.09796; aggregation of AANet, Xu & Zhang, CVPR 2020, arXiv:2004.09548;
refinement of StereoDRNet, Chabra et al., CVPR 2019, arXiv:1904.02251. Inputs hold both views, (B, 6, H, W), left first,
of any size. Answers are disparities in pixels, (B, H, W): in training a list of those of every level, coarse to fine;
in evaluation the last alone. `easnet` is the published space: kernel and expansion of each block, depth of each stage,
number of scales. Nearly all its work is in the refinement, which it does not choose; `easnet-plus` also chooses
refinement, fusions, deformable convolutions and the candidates' spacing, and `easnet-small` is that for small machines.
Parts use plain torch operations alone; deformable convolutions are samplings of a grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat import Pick, block, space
from nasplat.blocks import DisparityMaps, InvertedResidual, chain, divisible

WIDTHS = (24, 32, 64, 128)
STRIDES = (3, 2, 2, 2)
SQUEEZE = (False, True, False, True)
SLOPE = 0.2
DEFORMABLE = 3
"""So many of the last fusions sample their windows where they learn to."""


@dataclass(frozen=True)
class Refinement:
    """How disparities are refined at half and full resolution."""

    channels: int = 32
    blocks: int = 6
    levels: int = 2
    """0: upsampled only, 1: refined at half resolution, 2: at full resolution too."""


def correlation(left: Tensor, right: Tensor, candidates: int, spacing: int = 1) -> Tensor:
    """Compute the mean over channels of left(x) · right(x − d) for d = 0, spacing, …; 0 where x < d.

    Args:
        left: Features of shape (B, C, H, W).
        right: Features of the same shape.
        candidates: Number of disparities D.
        spacing: Pixels between candidates.

    Returns:
        Similarities of shape (B, D, H, W).
    """
    width = left.shape[3]
    reach = (candidates - 1) * spacing
    products = torch.matmul(left.permute(0, 2, 3, 1), F.pad(right, (reach, 0)).permute(0, 2, 1, 3)) / left.shape[1]
    # row x holds right at k − reach in column k; flattened, the columns of one disparity lie one row and a column apart
    rows = F.pad(products.flatten(2), (0, width)).unflatten(2, (width, width + reach + 1))
    return rows[..., : reach + 1 : spacing].flip(3).permute(0, 3, 1, 2)


def expectation(volume: Tensor, spacing: int = 1) -> Tensor:
    """Compute the mean disparity under the softmax of similarities, in float32.

    Args:
        volume: Similarities of shape (B, D, H, W).
        spacing: Pixels between candidates.

    Returns:
        Disparities of shape (B, H, W), in pixels of the volume.
    """
    candidates = torch.arange(volume.shape[1], device=volume.device, dtype=torch.float32)
    return (F.softmax(volume.float(), 1) * (candidates * spacing)[:, None, None]).sum(1)


def enlarge(disparity: Tensor, size: Sequence[int]) -> Tensor:
    """Upsample disparities (B, h, w) bilinearly; their unit follows the width."""
    if disparity.shape[1:] == tuple(size):
        return disparity
    larger = F.interpolate(disparity[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]
    return larger * (size[1] / disparity.shape[-1])


def warp(right: Tensor, disparity: Tensor) -> Tensor:
    """Sample the right image (B, C, H, W) at x − d, as the left camera would see it; zeros outside."""
    height, width = right.shape[2:]
    y, x = torch.meshgrid(
        *(torch.arange(n, device=right.device, dtype=disparity.dtype) for n in (height, width)), indexing="ij"
    )
    grid = torch.stack([_unit(x - disparity, width), _unit(y.expand_as(disparity), height)], 3)
    return F.grid_sample(right, grid.to(right.dtype), "bilinear", "zeros", align_corners=True)


def _unit(pixels: Tensor, size: int) -> Tensor:
    """Map pixel centres 0 … size − 1 to −1 … 1, the convention of align_corners."""
    return pixels * (2.0 / max(1, size - 1)) - 1.0


@block
class Deformable(nn.Module):
    """Modulated deformable 3x3 convolution whose offsets start at zero.

    Source: Zhu et al., CVPR 2019, arXiv:1811.11168.
    """

    def __init__(self, channels: int, groups: int = 2, dilation: int = 2) -> None:
        """Build offsets, weights and the mixing of the window's taps.

        Args:
            channels: Channels in and out.
            groups: Number of sets of channels with offsets of their own.
            dilation: Distance of the window's taps in pixels.
        """
        super().__init__()
        self.groups, self.dilation = groups, dilation
        self.offset = nn.Conv2d(channels, groups * 27, 3, 1, dilation, dilation, groups)
        self.mix = nn.Conv2d(channels * 9, channels, 1, bias=False)  # channel c reads its taps at 9 c … 9 c + 8
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        b, channels, height, width = x.shape
        told = self.offset(x).unflatten(1, (self.groups, 3, 9)).flatten(0, 1)  # (B groups, [x, y, weight], taps, H, W)
        taps = torch.arange(9, device=x.device)
        across, down = ((t - 1) * self.dilation for t in (taps % 3, taps // 3))
        ys, xs = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        at_x = told[:, 0] + across[:, None, None] + xs
        at_y = told[:, 1] + down[:, None, None] + ys[:, None]
        grid = torch.stack([_unit(at_x, width), _unit(at_y, height)], 4).flatten(1, 2)
        seen = F.grid_sample(
            x.unflatten(1, (self.groups, -1)).flatten(0, 1), grid, "bilinear", "zeros", align_corners=True
        )
        seen = seen.unflatten(2, (9, height)) * (2 * told[:, 2].sigmoid())[:, None]
        return self.mix(seen.reshape(b, channels * 9, height, width))


@block
class Bottleneck(nn.Module):
    """1x1, 3x3 (plain or deformable), 1x1, each normalised; added to its input."""

    def __init__(self, channels: int, deformable: bool) -> None:
        """Build the three convolutions.

        Args:
            channels: Channels in and out.
            deformable: True where the 3x3 samples its window where it learns to.
        """
        super().__init__()
        self.narrow = nn.Conv2d(channels, channels, 1, bias=False)
        self.narrow_norm = nn.BatchNorm2d(channels)
        self.window = Deformable(channels) if deformable else nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.window_norm = nn.BatchNorm2d(channels)
        self.widen = nn.Conv2d(channels, channels, 1, bias=False)
        self.widen_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        y = F.relu(self.narrow_norm(self.narrow(x)))
        y = F.relu(self.window_norm(self.window(y)))
        return F.relu(x + self.widen_norm(self.widen(y)))


class Exchange(nn.Sequential):
    """From one scale to another: 1x1 to a finer one (upsampled by the caller), 3x3 of stride 2 to coarser ones."""

    def __init__(self, inputs: int, outputs: int, halvings: int) -> None:
        """Build one 1x1 convolution, or one 3x3 convolution of stride 2 for each halving."""
        super().__init__()
        if not halvings:
            self.add_module("conv", nn.Conv2d(inputs, outputs, 1, bias=False))
            self.add_module("norm", nn.BatchNorm2d(outputs))
        for i in range(halvings):
            last = i == halvings - 1
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs if last else inputs, 3, 2, 1, bias=False))
            self.add_module(f"norm{i}", nn.BatchNorm2d(outputs if last else inputs))
            if not last:
                self.add_module(f"act{i}", nn.LeakyReLU(SLOPE))


class Fusion(nn.Module):
    """Aggregates each scale, then sums every scale into every other. Source: AANet."""

    def __init__(self, widths: Sequence[int], deformable: bool) -> None:
        """Build one bottleneck for each scale and one exchange for each pair of scales."""
        super().__init__()
        self.scales = len(widths)
        for i, width in enumerate(widths):
            self.add_module(f"scale{i}", Bottleneck(width, deformable))
        for i, outputs in enumerate(widths):
            for j, inputs in enumerate(widths):
                if i != j:
                    self.add_module(f"from{j}to{i}", Exchange(inputs, outputs, max(0, i - j)))

    def forward(self, volumes: list[Tensor]) -> list[Tensor]:
        """Map one volume (B, D, H, W) for each scale to one of the same shape."""
        seen = [getattr(self, f"scale{i}")(v) for i, v in enumerate(volumes)]
        out = []
        for i, own in enumerate(seen):
            total = own
            for j, other in enumerate(seen):
                if i != j:
                    sent = getattr(self, f"from{j}to{i}")(other)
                    total = total + (
                        sent if j < i else F.interpolate(sent, own.shape[2:], mode="bilinear", align_corners=False)
                    )
            out.append(F.leaky_relu(total, SLOPE))
        return out


@block
class Residual(nn.Module):
    """Two dilated 3x3 convolutions, added to their input."""

    def __init__(self, channels: int, dilation: int) -> None:
        """Build both convolutions.

        Args:
            channels: Channels in and out.
            dilation: Distance of the windows' taps in pixels.
        """
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, H, W)."""
        y = F.leaky_relu(self.first_norm(self.first(x)), SLOPE)
        return x + self.second_norm(self.second(y))


class Refine(nn.Module):
    """Corrects a disparity from what the right image, warped by it, leaves unexplained. Source: StereoDRNet."""

    def __init__(self, channels: int, blocks: int) -> None:
        """Build `blocks` residual blocks of `channels` channels, dilated by 1, 2, 4, 8, 1, 1."""
        super().__init__()
        half = channels // 2
        self.seen, self.seen_norm = nn.Conv2d(6, half, 3, 1, 1, bias=False), nn.BatchNorm2d(half)
        self.told, self.told_norm = nn.Conv2d(1, half, 3, 1, 1, bias=False), nn.BatchNorm2d(half)
        dilations = (1, 2, 4, 8, 1, 1)[:blocks]
        self.blocks = chain([(f"block{i}", Residual(channels, d)) for i, d in enumerate(dilations)])
        self.out = nn.Conv2d(channels, 1, 3, 1, 1)

    def forward(self, coarse: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Map a coarse disparity (B, h, w) and both views (B, 3, H, W) to a disparity (B, H, W) in pixels."""
        disparity = enlarge(coarse, left.shape[2:])
        error = warp(right, disparity) - left
        told = self.told_norm(self.told(disparity[:, None].to(left.dtype)))
        both = torch.cat([self.seen_norm(self.seen(torch.cat([error, left], 1))), told], 1)
        return F.relu(disparity + self.out(self.blocks(F.leaky_relu(both, SLOPE)))[:, 0])


class Matching(nn.Module):
    """Correlation volume of the two halves of a batch of features."""

    def __init__(self, candidates: int, spacing: int) -> None:
        """Keep the number of candidate disparities and their spacing in pixels."""
        super().__init__()
        self.candidates, self.spacing = candidates, spacing

    def forward(self, both: Tensor) -> Tensor:
        """Map features (2 B, C, H, W), left views first, to similarities (B, candidates, H, W)."""
        pairs = both.shape[0] // 2
        return correlation(both[:pairs], both[pairs:], self.candidates, self.spacing)


class Regression(nn.Module):
    """1x1 convolution of an aggregated volume and its expected disparity."""

    def __init__(self, candidates: int, spacing: int) -> None:
        """Build the 1x1 convolution over `candidates` disparities, `spacing` pixels apart."""
        super().__init__()
        self.spacing = spacing
        self.conv = nn.Conv2d(candidates, candidates, 1)

    def forward(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """Map a volume (B, candidates, H, W) to disparities (B, H, W) in its pixels, and to similarities."""
        similarities = self.conv(volume)
        return expectation(similarities, self.spacing), similarities


class Stereo(nn.Module):
    """Pyramid, matching, fusions, regression, refinement."""

    def __init__(
        self,
        stages: Sequence[nn.Module],
        candidates: Sequence[int],
        spacing: int,
        deformable: Sequence[bool],
        refinement: Refinement,
    ) -> None:
        """Join the stages of the pyramid with one matching and one regression for each scale."""
        super().__init__()
        self.scales, self.levels, self.spacing = len(candidates), refinement.levels, spacing
        self.stages = chain([(f"stage{i}", stage) for i, stage in enumerate(stages)])
        self.fusions = chain([(f"fusion{i}", Fusion(candidates, d)) for i, d in enumerate(deformable)])
        for i, width in enumerate(candidates):
            self.add_module(f"match{i}", Matching(width, spacing))
            self.add_module(f"regress{i}", Regression(width, spacing))
        for i in range(refinement.levels):
            self.add_module(f"refine{i}", Refine(refinement.channels, refinement.blocks))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Map both views (B, 6, H, W) to disparities (B, H, W), in training to those of every level."""
        height, width = x.shape[2:]
        unit = 3 * 2 ** (self.scales - 1)
        x = F.pad(x, (0, -width % unit, 0, -height % unit), mode="replicate")  # so that every scale is a whole fraction
        left, right = x.chunk(2, 1)
        both, volumes = torch.cat([left, right]), []
        for i, stage in enumerate(self.stages):
            both = stage(both)
            volumes.append(getattr(self, f"match{i}")(both))
        for fusion in self.fusions:
            volumes = fusion(volumes)
        scales = range(self.scales - 1, -1, -1) if self.training else [0]
        told = [getattr(self, f"regress{i}")(volumes[i]) for i in scales]
        found = [disparity for disparity, _ in told]
        for i in range(self.levels):
            views = (left, right) if i else [F.interpolate(v, scale_factor=0.5, mode="bilinear") for v in (left, right)]
            found.append(getattr(self, f"refine{i}")(found[-1], *views))
        full = [enlarge(d, left.shape[2:])[:, :height, :width] for d in (found if self.training else found[-1:])]
        if not self.training:
            return full[0]
        strides = [STRIDES[0] * 2**i for i in scales]
        return DisparityMaps(
            full, [(v, stride, stride * self.spacing) for (_, v), stride in zip(told, strides, strict=True)]
        )


def picked_pyramid(
    pick: Pick, scales: Sequence[int], depths: Sequence[int], kernels: Sequence[int], expands: Sequence[int]
) -> list[list[tuple[int, int]]]:
    """Pick kernel and expansion of each block of each stage that the number of scales needs."""
    found = []
    for i in range(pick("scales", tuple(scales))):
        depth = pick(f"stage{i}.depth", tuple(depths))
        names = [f"stage{i}.block{j}" for j in range(depth)]
        found.append([(pick(f"{n}.kernel", tuple(kernels)), pick(f"{n}.expand", tuple(expands))) for n in names])
    return found


def built(
    plan: Sequence[Sequence[tuple[int, int]]],
    widths: Sequence[int],
    candidates: int,
    spacing: int,
    deformable: Sequence[bool],
    refinement: Refinement,
) -> Stereo:
    """Build the network of picked blocks; `candidates` is D of the finest scale, halved at each coarser one."""
    stages, last = [], 3
    for i, rows in enumerate(plan):
        blocks = []
        for j, (kernel, expand) in enumerate(rows):
            stride = STRIDES[i] if j == 0 else 1
            hidden = divisible(round(last * expand))
            blocks.append(
                (
                    f"block{j}",
                    InvertedResidual(last, widths[i], hidden, kernel, stride, SQUEEZE[i], nn.ReLU, always_expand=True),
                )
            )
            last = widths[i]
        stages.append(chain(blocks))
    sizes = [max(2, candidates // 2**i // spacing) for i in range(len(plan))]
    return Stereo(stages, sizes, spacing, deformable, refinement)


@space(example_input=lambda height=576, width=960, **presets: (1, 6, height, width))
def easnet(
    pick: Pick,
    scales: Sequence[int] = (2, 3, 4),
    depths: Sequence[int] = (2, 3, 4),
    kernels: Sequence[int] = (3, 5, 7),
    expands: Sequence[int] = (2, 4, 6, 8),
    disparity: int = 192,
    fusions: int = 6,
    height: int = 576,
    width: int = 960,
) -> nn.Module:
    """Build EASNet as published: scales, depths, kernels and expansions are picked.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        scales: Options for the number of scales of the pyramid.
        depths: Options for the number of blocks of a stage.
        kernels: Options for the side of a block's kernel.
        expands: Options for the expansion of a block.
        disparity: Largest disparity in pixels, a multiple of 3; the published 192.
        fusions: Number of fusions over scales, the last three deformable; the published 6.
        height: Height of the example input in pixels; the network takes any size.
        width: Width of the example input in pixels; the network takes any size.

    Returns:
        A network from both views (B, 6, H, W) to disparities (B, H, W) in pixels.
    """
    plan = picked_pyramid(pick, scales, depths, kernels, expands)
    return built(plan, WIDTHS, disparity // 3, 1, [i >= fusions - DEFORMABLE for i in range(fusions)], Refinement())


@space(example_input=lambda height=576, width=960, **presets: (1, 6, height, width))
def easnet_plus(
    pick: Pick,
    scales: Sequence[int] = (2, 3, 4),
    depths: Sequence[int] = (2, 3, 4),
    kernels: Sequence[int] = (3, 5, 7),
    expands: Sequence[int] = (2, 4, 6, 8),
    fusions: Sequence[int] = (2, 3, 4, 5, 6),
    spacings: Sequence[int] = (1, 2),
    channels: Sequence[int] = (16, 24, 32),
    blocks: Sequence[int] = (2, 4, 6),
    widths: Sequence[int] = WIDTHS,
    disparity: int = 192,
    height: int = 576,
    width: int = 960,
) -> nn.Module:
    """Build EASNet where everything that costs is picked, fusions and refinement included.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        scales: Options for the number of scales of the pyramid.
        depths: Options for the number of blocks of a stage.
        kernels: Options for the side of a block's kernel.
        expands: Options for the expansion of a block.
        fusions: Options for the number of fusions over scales.
        spacings: Options for the pixels between candidate disparities.
        channels: Options for the channels of the refinement.
        blocks: Options for the residual blocks of a refinement, at most 6.
        widths: Channels of the pyramid's stages; the published ones.
        disparity: Largest disparity in pixels, a multiple of 3; the published 192.
        height: Height of the example input in pixels; the network takes any size.
        width: Width of the example input in pixels; the network takes any size.

    Returns:
        A network from both views (B, 6, H, W) to disparities (B, H, W) in pixels.
    """
    plan = picked_pyramid(pick, scales, depths, kernels, expands)
    count = pick("fusions", tuple(fusions))
    spacing = pick("spacing", tuple(spacings))
    moves = pick("deformable", (False, True))
    levels = pick("refine.levels", (0, 1, 2))
    wide = pick("refine.channels", tuple(channels)) if levels else channels[-1]
    deep = pick("refine.blocks", tuple(blocks)) if levels else blocks[-1]
    deformable = [moves and i >= count - DEFORMABLE for i in range(count)]
    return built(plan, widths, disparity // 3, spacing, deformable, Refinement(wide, deep, levels))


@space(example_input=lambda height=128, width=256, **presets: (1, 6, height, width))
def easnet_small(
    pick: Pick,
    scales: Sequence[int] = (2, 3),
    depths: Sequence[int] = (1, 2),
    kernels: Sequence[int] = (3, 5),
    expands: Sequence[int] = (2, 4),
    fusions: Sequence[int] = (1, 2, 3),
    channels: Sequence[int] = (8, 16),
    blocks: Sequence[int] = (1, 2, 3),
    widths: Sequence[int] = (16, 24, 32),
    disparity: int = 48,
    height: int = 128,
    width: int = 256,
) -> nn.Module:
    """Build EASNet for small machines: fewer and narrower stages, plain fusions, refinement to half size at most.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        scales: Options for the number of scales of the pyramid.
        depths: Options for the number of blocks of a stage.
        kernels: Options for the side of a block's kernel.
        expands: Options for the expansion of a block.
        fusions: Options for the number of fusions over scales.
        channels: Options for the channels of the refinement.
        blocks: Options for the residual blocks of a refinement, at most 6.
        widths: Channels of the pyramid's stages; narrower than the published ones.
        disparity: Largest disparity in pixels, a multiple of 3; a quarter of the published 192.
        height: Height of the example input in pixels; the network takes any size.
        width: Width of the example input in pixels; the network takes any size.

    Returns:
        A network from both views (B, 6, H, W) to disparities (B, H, W) in pixels.
    """
    plan = picked_pyramid(pick, scales, depths, kernels, expands)
    count = pick("fusions", tuple(fusions))
    levels = pick("refine.levels", (0, 1))
    wide = pick("refine.channels", tuple(channels)) if levels else channels[-1]
    deep = pick("refine.blocks", tuple(blocks)) if levels else blocks[-1]
    return built(plan, widths, disparity // 3, 1, [False] * count, Refinement(wide, deep, levels))
