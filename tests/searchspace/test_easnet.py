"""The stereo space: published counts, its parts against plain references, any size of input, ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import nasplat
from nasplat import content
from nasplat.errors import ContentError

SPACE = content.load_module(content.locate("search_spaces", "easnet"))


def uniform(kernel: int, depth: int, expand: int, scales: int) -> dict[str, Any]:
    found: dict[str, Any] = {"scales": scales}
    for i in range(scales):
        found[f"stage{i}.depth"] = depth
        for j in range(depth):
            found |= {f"stage{i}.block{j}.kernel": kernel, f"stage{i}.block{j}.expand": expand}
    return found


@pytest.mark.parametrize(
    ("setting", "params", "gmacs"),
    [
        ((7, 4, 8, 4), 5.07e6, 124.4),
        ((7, 2, 8, 4), 3_032_042, 115.5),
        ((5, 3, 6, 3), 1.38e6, 110.0),
        ((7, 2, 8, 2), 0.89e6, 104.9),
        ((3, 2, 2, 2), 0.78e6, 101.1),
    ],
)
def test_published_subnets_have_their_counts(setting: tuple[int, int, int, int], params: float, gmacs: float) -> None:
    graph = nasplat.load_space("easnet").architecture(uniform(*setting)).graph()
    assert graph.params == pytest.approx(params, rel=0.005)
    assert graph.macs / 1e9 == pytest.approx(gmacs, rel=0.01)


def test_the_submitted_subnet_has_every_parameter() -> None:
    """The log's 3.032042 M count what training alone uses too."""
    module = nasplat.load_space("easnet").architecture(uniform(7, 2, 8, 4)).build()
    assert sum(p.numel() for p in module.parameters()) == 3_032_042


def test_variants_are_spaces_of_their_own() -> None:
    plus = nasplat.load_space("easnet-plus")
    macs = [plus.extreme(largest).graph().macs for largest in (False, True)]
    assert macs[1] > 8 * macs[0]
    small = nasplat.load_space("easnet-small")
    again = nasplat.Architecture.from_json(small.sample(seed=1).to_json())
    assert again == small.sample(seed=1)
    nasplat.check_space(small)
    with pytest.raises(ContentError, match="named 'easnet_tiny'"):
        nasplat.load_space("easnet-tiny")


@pytest.mark.parametrize(("candidates", "spacing"), [(6, 1), (4, 2), (20, 1), (2, 5)])
def test_correlation_is_the_mean_product_of_shifted_rows(candidates: int, spacing: int) -> None:
    left, right = torch.randn(2, 2, 5, 7, 20, generator=torch.Generator().manual_seed(0))
    want = torch.zeros(2, candidates, 7, 20)
    for i in range(candidates):
        d = i * spacing
        want[:, i, :, d:] = (left[..., d:] * right[..., : 20 - d]).mean(1)
    assert torch.allclose(SPACE.correlation(left, right, candidates, spacing), want, atol=1e-5)


def test_warping_by_whole_pixels_is_a_shift() -> None:
    image = torch.randn(2, 3, 8, 30, generator=torch.Generator().manual_seed(0))
    for d in (0, 1, 7):
        warped = SPACE.warp(image, torch.full((2, 8, 30), float(d)))
        assert torch.allclose(warped[..., d:], image[..., : 30 - d], atol=1e-4)
        assert (warped[..., :d].abs() < 1e-4).all()


def bilinear(plane: Tensor, y: float, x: float) -> float:
    """Value of a plane between its pixels, zeros outside."""
    top, left, total = int(y // 1), int(x // 1), 0.0
    for i, weight_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for j, weight_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            if 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]:
                total += weight_y * weight_x * float(plane[i, j])
    return total


def test_deformable_convolution_starts_plain_and_follows_its_offsets() -> None:
    torch.manual_seed(0)
    module = SPACE.Deformable(4, groups=2, dilation=2)
    x = torch.randn(1, 4, 5, 6)
    weight = module.mix.weight.view(4, 4, 3, 3)
    assert torch.allclose(module(x), F.conv2d(x, weight, None, 1, 2, 2), atol=1e-5)
    torch.nn.init.normal_(module.offset.weight, std=0.3)
    torch.nn.init.normal_(module.offset.bias)
    told = module.offset(x).detach()[0].view(2, 3, 9, 5, 6)
    want = torch.zeros(4, 5, 6)
    for row in range(5):
        for column in range(6):
            for channel in range(4):
                for tap in range(9):
                    dx, dy, strength = (float(told[channel // 2, k, tap, row, column]) for k in range(3))
                    at = (row + (tap // 3 - 1) * 2 + dy, column + (tap % 3 - 1) * 2 + dx)
                    seen = bilinear(x[0, channel], *at) * 2 * float(torch.sigmoid(torch.tensor(strength)))
                    want[:, row, column] += weight[:, channel, tap // 3, tap % 3].detach() * seen
    assert torch.allclose(module(x)[0], want, atol=1e-4)


def test_expected_disparity_is_in_pixels_of_the_picture() -> None:
    volume = torch.full((1, 8, 2, 12), -50.0)
    volume[:, 3] = 50.0
    assert torch.allclose(SPACE.expectation(volume, 2), torch.full((1, 2, 12), 6.0))
    assert torch.allclose(SPACE.enlarge(torch.full((1, 2, 12), 6.0), (6, 36)), torch.full((1, 6, 36), 18.0))


@pytest.mark.parametrize("size", [(128, 256), (100, 131), (24, 48)])
def test_any_size_of_input_is_answered_at_its_size(size: tuple[int, int]) -> None:
    space = nasplat.load_space("easnet-plus", widths=(8, 8, 8, 8), disparity=24, channels=(8,), fusions=(1, 4))
    for largest in (False, True):
        module = space.extreme(largest).build()
        x = torch.randn(2, 6, *size)
        maps = module.train()(x)
        assert len(maps) == (2 if not largest else 6)
        assert all(m.shape == (2, *size) for m in maps)
        assert module.eval()(x).shape == (2, *size)


def test_a_subnet_with_deformable_windows_is_exported(tmp_path: Path) -> None:
    space = nasplat.load_space(
        "easnet-plus", widths=(8, 8, 8, 8), disparity=12, channels=(8,), fusions=(1,), height=24, width=48
    )
    module = space.architecture(space.extreme(False).choices | {"deformable": True}).build()
    for part in module.modules():
        if isinstance(part, SPACE.Deformable):
            torch.nn.init.normal_(part.offset.weight, std=0.05)
    certificate = nasplat.export(module, tmp_path / "stereo.onnx", (1, 6, 24, 48))
    assert certificate.max_relative_error < 1e-3
