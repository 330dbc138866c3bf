"""Networks that read tokens: the task's whole numbers stay whole through training, labels and searches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import nasplat
from nasplat.editing.network import Network
from nasplat.errors import EditError, SupernetError, TaskError


class Text(nn.Module):
    """A classifier of token numbers below 20."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, width), nn.Linear(width, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(tokens).mean(1))


@nasplat.space(example_input=torch.zeros(1, 6, dtype=torch.int64))
def text(pick: nasplat.Pick) -> nn.Module:
    return Text(pick("width", (4, 8)))


def sentences(largest: int = 19) -> nasplat.Task:
    tokens = np.random.default_rng(0).integers(0, largest + 1, (48, 6))
    tokens[0, 0] = largest
    pair = (tokens, (tokens[:, 0] > 9).astype(int))
    return nasplat.Task.from_arrays(pair, pair, name="sentences")


def test_every_verb_takes_tokens() -> None:
    task = sentences()
    member = text.sample(seed=0)
    supernet = nasplat.Supernet(text, task, seed=0)
    supernet.train(epochs=1, batch_size=16)
    assert 0 <= supernet.evaluate(member) <= 100
    assert len(nasplat.label(text, task, 2, nasplat.Budget(epochs=1))) == 2
    study = nasplat.search(text, maximize=[nasplat.Inherited(supernet, task)], minimize=["params"], n_trials=2, seed=0)
    assert len(study.trials) == 2
    assert text.for_task(task).from_task == ""
    nasplat.check_space(text)


def test_channels_of_token_networks_are_sorted_without_changing_answers() -> None:
    supernet = nasplat.Supernet(text, sentences(), seed=0)
    tokens, largest = torch.arange(12).reshape(2, 6), text.extreme()
    before = supernet.subnet(largest)(tokens)
    assert supernet.sort_channels()
    assert torch.allclose(supernet.subnet(largest)(tokens), before, atol=1e-6)
    supernet.train(epochs=2, batch_size=16, strategy="progressive")


def test_networks_of_tokens_are_not_edited() -> None:
    with pytest.raises(
        EditError, match=r"expected the shape of a batch, .* got a tensor of torch.int64 \(.*\).\n  Networks of tok"
    ):
        Network.of(Text(4), text.sample(seed=0).example_input)  # type: ignore[arg-type]


def test_tokens_that_a_space_does_not_know_are_named_before_training() -> None:
    with pytest.raises(
        TaskError, match=r"(?s)could not run on inputs .* of int64 of task 'sentences'.*up to 20: an emb"
    ):
        nasplat.Supernet(text, sentences(largest=20), seed=0)
    pair = (np.random.default_rng(0).random((8, 6)), np.arange(8) % 2)
    quantities = nasplat.Task.from_arrays(pair, pair)
    with pytest.raises(SupernetError, match=r"expected inputs of torch.int64, task 'arrays' has torch.float32"):
        nasplat.Supernet(text, quantities, seed=0)
    vectors = nasplat.space(example_input=(1, 6))(lambda pick: nn.Linear(6, pick("classes", (2, 3))))
    with pytest.raises(TaskError, match="Quantities are given as floats"):
        nasplat.Supernet(vectors, sentences(), seed=0)
