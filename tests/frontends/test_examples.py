"""Example inputs mean the same to every verb, and batches are drawn like them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nasplat.errors import CaptureError
from nasplat.frontends.examples import Inputs, as_example, distinct

pytestmark = pytest.mark.fast
TOKENS = torch.tensor([[3, 1, 4, 1, 5]])


@pytest.mark.parametrize(("example", "shapes"), [
    ((2, 3), [(2, 3)]),
    ([2, 3], [(2, 3)]),
    (torch.zeros(2, 3), [(2, 3)]),
    (((2, 3), (2, 4)), [(2, 3), (2, 4)]),
    ({"x": (2, 3), "mask": None, "scale": 2.0}, [(2, 3)]),
    (({"q": (2, 3)}, [(2, 4), TOKENS]), [(2, 3), (2, 4), (1, 5)]),
])  # fmt: skip
def test_examples_are_shapes_tensors_tuples_and_dicts(example: Any, shapes: list[tuple[int, ...]]) -> None:
    assert [tuple(t.shape) for t in Inputs.of(example).tensors(as_example(example))] == shapes


@pytest.mark.parametrize("example", [(), {}, "1,3", 7, None, ((),), (1.5, 2)])
def test_what_is_no_example_says_what_one_is(example: Any) -> None:
    with pytest.raises(CaptureError, match="expected example_input as a shape tuple"):
        as_example(example)


@pytest.mark.parametrize("example", [(1, -8), {"x": (1, -8)}])
def test_negative_sizes_are_refused(example: Any) -> None:
    with pytest.raises(CaptureError, match=r"expected sizes of 0 or more in example_input, got \(1, -8\)"):
        as_example(example)


def test_batches_are_drawn_in_the_types_and_sizes_of_the_example() -> None:
    inputs = Inputs.of({
        "image": (1, 3, 4), "tokens": TOKENS, "half": torch.ones(1, 2).half(), "wide": torch.rand(1, 2).double(),
        "mask": torch.ones(1, 5, dtype=torch.bool), "table": torch.rand(7, 2), "scale": 2.0, "none": None,
    })  # fmt: skip
    drawn = inputs.drawn(64, torch.Generator().manual_seed(0))
    assert {k: tuple(t.shape) for k, t in drawn.items() if isinstance(t, Tensor)} == {
        "image": (64, 3, 4), "tokens": (64, 5), "half": (64, 2), "wide": (64, 2), "mask": (64, 5), "table": (7, 2)
    }  # fmt: skip
    assert [drawn[k].dtype for k in ("image", "half", "wide")] == [torch.float32, torch.float16, torch.float64]
    assert (drawn["scale"], drawn["none"]) == (2.0, None)
    assert set(drawn["tokens"].flatten().tolist()) == {1, 3, 4, 5}
    assert set(drawn["mask"].flatten().tolist()) == {True, False}
    assert set(drawn["table"].flatten().tolist()) <= set(inputs.arguments["table"].flatten().tolist())
    assert 0.5 < float(drawn["half"].float().std()) < 1.5, "values that are all equal become noise around them"


def test_own_values_are_repeated() -> None:
    inputs = Inputs.of((TOKENS, torch.tensor([[2.5]])))
    tokens, numbers = inputs.repeated(3)
    assert tokens.tolist() == [TOKENS[0].tolist()] * 3
    assert numbers.tolist() == [[2.5]] * 3
    assert torch.equal(Inputs.of((2, 4)).repeated(3, seed=5)[0], torch.randn(3, 4, generator=_seeded(5)))


def _seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


class Reads(nn.Module):
    """Embeds its first argument, adds the second to it, and uses the third as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Embedding(50, 4)

    def forward(self, ids: Tensor, shift: Tensor, kind: Tensor) -> Tensor:
        return self.rows(ids[:, :3]).sum(1) + shift + kind[:, None]


def test_integers_that_index_an_embedding_are_drawn_among_its_rows() -> None:
    inputs = Inputs.of((TOKENS, (1, 4), torch.tensor([2]))).indexing(Reads().eval())
    assert inputs.limits == (50, None, None)
    ids, _, kind = inputs.drawn(200, _seeded(0))
    assert set(ids.flatten().tolist()) == set(range(50))
    assert set(kind.tolist()) == {2}


def test_the_batch_may_be_the_second_axis_of_further_tensors() -> None:
    inputs = Inputs.of(((2, 6, 8), (1, 2, 4)))
    assert [found.axes for found in inputs.assignments()] == [(0, None), (0, 1)]
    assert tuple(list(inputs.assignments())[1].drawn(5)[1].shape) == (1, 5, 4)
    assert [found.axes for found in Inputs.of(((1, 8), (1,))).assignments()] == [(0, 0), (0, None)]


def test_inputs_that_cannot_be_made_are_refused() -> None:
    inputs = Inputs.of((1, 10**8, 10**7))
    with pytest.raises(CaptureError, match=r"inputs that can be made here, got torch.float32 of shape \(1, 100000000,"):
        inputs.repeated()
    with pytest.raises(CaptureError, match="a smaller example input of dense tensors"):
        Inputs.of(torch.eye(3).to_sparse()).drawn(2)


def test_tensors_without_axes_have_no_batch() -> None:
    inputs = Inputs.of(torch.tensor(3.0))
    assert inputs.batch is None
    assert list(inputs.assignments()) == []
    assert inputs.drawn(4)[0].shape == ()


def test_inputs_are_named_by_the_arguments() -> None:
    module = Reads()
    assert Inputs.of((1, 4)).names(nn.Linear(4, 2)) == ["input"]
    assert Inputs.of((TOKENS, (1, 4), (1,))).names(module) == ["ids", "shift", "kind"]
    assert Inputs.of({"kind": (1,), "ids": TOKENS}).names(module) == ["kind", "ids"]
    assert Inputs.of(({"q": (1, 2), "r": (1, 3)}, [(1, 4)])).names(module) == ["ids_q", "ids_r", "shift_0"]
    assert distinct(["a", "a", "b"], ["b"]) == ["a", "a_2", "b_2"]
