"""Slices follow the data: packed, joined, split and grouped axes give the parts of their producers, or are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from packed import largest_difference
from torch import Tensor, nn
from torch.nn import functional as F

import nasplat
from nasplat.errors import SpaceError, SupernetError
from nasplat.supernet.axes import Axis, factors, product, root, row, segments, unite
from nasplat.supernet.flow import follow
from nasplat.supernet.layouts import Layout, Unsure, layout_of, merge, place
from nasplat.supernet.survey import slices_refused


def task_of(*shape: int, n: int = 8) -> nasplat.Task:
    """A task of random numbers, of which only the shape counts."""
    x = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(n, dtype=torch.long)
    return nasplat.Task.from_arrays((x, y), (x, y))


def space_of(build: Callable[[nasplat.Pick], nn.Module], *shape: int) -> nasplat.Space:
    return nasplat.space(example_input=(1, *shape))(build)


@pytest.mark.parametrize("seed", range(24))  # two hundred: benchmarks/bench_slices.py
def test_a_subnet_of_packed_layers_equals_the_largest_network_whose_cut_channels_are_muted(seed: int) -> None:
    assert largest_difference(seed, members=2) < 1e-5


class Two(nn.Module):
    """A projection that `split` cuts in two, of which the second half is read through `of`."""

    def __init__(self, n: int, of: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.of = nn.Linear(6, n), nn.Linear(n, 3), of

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.of(self.first(x)))


@pytest.mark.fast
def test_features_that_an_unknown_operation_mixes_are_refused_by_name() -> None:
    space = space_of(lambda pick: Two(pick("n", (4, 8)), lambda y: torch.fft.fft(y).real), 6)
    with pytest.raises(
        SupernetError,
        match=r"'first.weight': which 4 of 8 positions along axis 0 belong to .*fft_fft in the network itself is not "
        r"understood(?s:.*)declare slicing = ",
    ):
        nasplat.Supernet(space, task_of(6))
    with pytest.raises(SpaceError, match=r"'first.weight': which 4 of 8 positions"):
        nasplat.check_space(space, samples=3)


@pytest.mark.fast
def test_a_network_may_declare_that_the_first_positions_are_right() -> None:
    class Declared(Two):
        slicing = {"*": "leading"}  # noqa: RUF012

    space = space_of(lambda pick: Declared(pick("n", (4, 8)), lambda y: torch.fft.fft(y).real), 6)
    supernet = nasplat.Supernet(space, task_of(6))
    module = supernet.subnets.extract(space.architecture({"n": 4}))
    assert torch.equal(module.first.weight, supernet.store.weights["first.weight"][:4])  # type: ignore[union-attr]
    Declared.slicing = {"first.*": "middle"}
    with pytest.raises(SupernetError, match="expected one rule per axis or 'leading', got 'middle'"):
        nasplat.Supernet(space_of(lambda pick: Declared(pick("m", (4, 8)), F.relu), 6), task_of(6))


@pytest.mark.fast
@pytest.mark.parametrize(
    "of", [lambda y: y.cumsum(0), lambda y: torch.special.erfcx(y), lambda y: y.flip(0), lambda y: F.gelu(y).sinc()]
)
def test_operations_that_let_features_pass_are_not_refused(of: Callable[[Tensor], Tensor]) -> None:
    space = space_of(lambda pick: Two(pick("n", (4, 8)), of), 6)
    supernet = nasplat.Supernet(space, task_of(6))
    assert not supernet.store.slices.layouts


@pytest.mark.fast
def test_a_choice_of_groups_at_equal_width_is_refused_by_name() -> None:
    def build(pick: nasplat.Pick) -> nn.Module:
        return nn.Sequential(nn.Conv2d(8, 8, 1, groups=pick("groups", (1, 2))), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    with pytest.raises(SupernetError, match=r"1 groups of 8 input channels in .* and 2 of 4 here"):
        nasplat.Supernet(space_of(build, 8, 4, 4), task_of(8, 4, 4))


@pytest.mark.fast
def test_heads_that_do_not_lie_inside_one_another_are_refused_by_name() -> None:
    def build(pick: nasplat.Pick) -> nn.Module:
        heads, width = pick("heads", (3, 4)), pick("width", (5, 8))
        return Two(heads * (8 if heads == 3 else width), lambda y: y.unflatten(-1, (heads, -1)).softmax(1).flatten(1))

    space = space_of(build, 6)
    nasplat.Supernet(space, task_of(6))  # 3 x 8, 4 x 5 and 4 x 8 lie in 4 x 8

    def uneven(pick: nasplat.Pick) -> nn.Module:
        heads = pick("heads", (2, 5))
        return Two(heads * (9 if heads == 2 else 4), lambda y: y.unflatten(-1, (heads, -1)).softmax(1).flatten(1))

    with pytest.raises(SupernetError, match=r"5 x 4 positions in the larger network|do not fit into"):
        nasplat.Supernet(space_of(uneven, 6), task_of(6))


def test_training_moves_only_the_positions_that_a_subnet_takes() -> None:
    def build(pick: nasplat.Pick) -> nn.Module:
        n = pick("n", (2, 4))
        return Two(2 * n, lambda y: torch.cat([y.chunk(2, -1)[1], y.chunk(2, -1)[0]], -1))

    space = space_of(build, 6)
    supernet = nasplat.Supernet(space, task_of(6), seed=0)
    before = {k: w.clone() for k, w in supernet.store.weights.items()}
    small = space.architecture({"n": 2})
    bound = supernet.subnets.bind(small)
    optimiser = nasplat.supernet.optimiser.MaskedAdamW(supernet.store.weights, supernet.store.rules, 0.01)
    bound.module(torch.ones(3, 6)).square().sum().backward()
    bound.collect(supernet.store, optimiser)
    with torch.no_grad():
        optimiser.step(0.1, 1e9)
    rows = (supernet.store.weights["first.weight"] != before["first.weight"]).any(1)
    assert rows.tolist() == [True, True, False, False] * 2
    columns = (supernet.store.weights["second.weight"] != before["second.weight"]).any(0)
    assert columns.tolist() == [True, True, False, False] * 2
    again = supernet.subnets.bind(small)  # a computed parameter follows the store
    assert torch.equal(again.module.first.weight[2:], supernet.store.weights["first.weight"][4:6])  # type: ignore


# -- axes and layouts --------------------------------------------------------------------------------------------------


@pytest.mark.fast
def test_what_is_learnt_of_an_axis_late_holds_for_all_that_it_is_one_with() -> None:
    a, b = Axis(24), Axis(24)
    unite(a, b, "x")
    three, heads, width = factors(a, [3, 4, 2], "x")
    assert [root(p).size for p in root(b).parts] == [3, 4, 2]
    first, second = segments(b, [8, 16], "x")  # one and two of three
    assert root(first).size == 8
    assert root(second).size == 16
    assert [root(p).size for p in root(three).parts] == [1, 2]
    assert not root(a).doubt
    segments(heads, [1, 3], "x")
    assert root(product([heads, width])).size == 8


@pytest.mark.fast
def test_splits_that_do_not_agree_leave_a_doubt() -> None:
    axis = Axis(12)
    factors(axis, [4, 3], "first")
    factors(axis, [3, 4], "then")
    assert root(axis).doubt == "then"
    other = Axis(5)
    unite(axis, other, "sizes")
    assert root(other).doubt == "sizes"


@pytest.mark.fast
def test_a_smaller_axis_lies_factor_by_factor_and_segment_by_segment() -> None:
    def stacked(*sizes: int) -> Layout:
        return layout_of(product([Axis(n) for n in sizes]), {})

    assert place(stacked(2, 2), stacked(2, 3)).tolist() == [0, 1, 3, 4]
    whole = layout_of(row([Axis(4, names=[("a", 0)]), Axis(3, names=[("b", 0)])]), {})
    part = layout_of(row([Axis(2, names=[("a", 0)]), Axis(2, names=[("b", 0)])]), {})
    assert place(part, whole).tolist() == [0, 1, 4, 5]
    assert place(layout_of(Axis(2, names=[("b", 0)]), {}), whole).tolist() == [4, 5]
    with pytest.raises(Unsure, match="a row of 2 segments has 1"):
        place(layout_of(Axis(2), {}), whole)
    with pytest.raises(Unsure, match="positions in space or time"):
        place(Layout(2, is_position=True), Layout(3))
    wider = merge(part, layout_of(row([Axis(1, names=[("a", 0)]), Axis(9, names=[("b", 0)])]), {}))
    assert [p.size for p in wider.parts] == [2, 9]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("forward", "kind", "sizes"),
    [
        (lambda y: F.pixel_shuffle(y, 2), "product", [3, 2, 2]),
        (lambda y: F.channel_shuffle(y, 3), "product", [3, 4]),
        (lambda y: y[:, torch.arange(12).view(3, 4).t().flatten()], "product", [3, 4]),
        (lambda y: torch.cat(y.tensor_split([5], 1)[::-1], 1), "row", [5, 7]),
        (lambda y: y.narrow(1, 3, 6), "row", [3, 6, 3]),
        (lambda y: y.unflatten(1, (2, 3, 2)).movedim(2, 1).flatten(1, 3), "product", [2, 3, 2]),
        (lambda y: torch.stack(y.unbind(1)[:2], 1), "", []),
        (lambda y: F.glu(F.pad(y, (0, 0, 0, 0, 0, 2)), 1), "row", [5, 2, 5]),
    ],
)
def test_what_splits_a_layer_is_seen_in_its_weight(
    forward: Callable[[Tensor], Tensor], kind: str, sizes: list[int]
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 12, 1)

        def forward(self, x: Tensor) -> Tensor:
            return forward(self.layer(x))

    layouts, _ = follow(Net(), (2, 3, 4, 4))
    found = layouts["layer.weight"][0]
    assert (found.kind, [p.size for p in found.parts]) == (kind, sizes)
    assert found == layouts["layer.bias"][0]
    assert not found.doubt


@pytest.mark.fast
def test_positions_of_a_product_count_the_last_factor_fastest() -> None:
    index = place(Layout(4, "product", (Layout(2), Layout(2))), Layout(12, "product", (Layout(3), Layout(4))))
    assert np.array_equal(index, [0, 1, 4, 5])


class Turned(nn.Module):
    """Heads whose numbers are split and put together again, as rotary positions do."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads, self.q, self.k = heads, nn.Linear(6, 4 * heads), nn.Linear(6, 4 * heads)
        self.out = nn.Linear(4 * heads, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = (p(x).unflatten(2, (self.heads, 4)).transpose(1, 2) for p in (self.q, self.k))
        a, b, rest = q.split([1, 1, 2], 3)
        q = torch.cat([a - b, b + a, rest], 3)
        return self.out(nn.functional.scaled_dot_product_attention(q, k, k).transpose(1, 2).flatten(2))


def test_a_single_head_of_segments_is_the_first_of_several() -> None:
    @nasplat.space(example_input=(1, 5, 6))
    def turned(pick: nasplat.Pick) -> nn.Module:
        return Turned(pick("heads", (1, 2, 4)))

    assert slices_refused(turned) == ""
