"""Decoders of language models have the published parameters, read no token ahead, share weights, and become files."""

from __future__ import annotations

import csv
import gzip
import os
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import nasplat
from nasplat.errors import SpaceError, TableError, TaskError
from nasplat.graph.decoding import decoding_of
from nasplat.task.judging import token_loss, token_nats
from nasplat.task.tokens import compose

pytestmark = pytest.mark.fast

HWGPT = {"heads": "4-4-4-8-4-4-4-8-4-12", "mlp_ratio": "3323333432", "layers": "10"}
LTS: list[tuple[dict[str, str], dict[str, Any], int]] = [
    (
        {
            "family": "gpt2",
            "d_model": "960",
            "d_embed": "960",
            "n_head": "4-2",
            "d_inner": "3584-2304",
            "div_val": "4",
            "n_token": "50264",
        },
        {"length": 32, "bands": "lm1b"},
        68_880_472,
    ),
]


def read(columns: dict[str, str], **presets: Any) -> nasplat.Architecture:
    space = nasplat.load_space("gpt", **presets)
    return space.parse(next(f for wanted, f in space.row_readers.items() if set(wanted) <= set(columns))(columns))


def test_decoders_of_hwgpt_have_their_parameters() -> None:
    row = HWGPT | {"scale": "S", "embed": "192", "bias": "0"}
    assert read(row, size="hwgpt-s").graph().params == 25_265_280
    biased = HWGPT | {"scale": "S", "embed": "192", "bias": "1"}
    heads, ratios = ([int(v) for v in text] for text in (HWGPT["heads"].split("-"), HWGPT["mlp_ratio"]))
    more = sum(192 * h + 2 * r * 192 + 2 * 192 for h, r in zip(heads, ratios, strict=True))
    assert read(biased, size="hwgpt-s").graph().params == 25_265_280 + more


def test_decoders_of_litetransformersearch_have_their_parameters() -> None:
    for row, presets, params in LTS:
        assert read(row, size="lts-gpt2", **presets).graph().params == params


def by_rule(row: dict[str, str]) -> int:
    """Parameters of a Transformer-XL, written as sums: bands, layers, and what the softmax has of its own."""
    d, e, k, n = (int(row[key]) for key in ("d_model", "d_embed", "div_val", "n_token"))
    inner = [int(v) for v in row["d_inner"].split("-")]
    ends = [0, *(end for end in (19997, 39997, 199997) if end < n), n]
    sizes = [b - a for a, b in pairwise(ends)]
    table = n * e + (d * e if d != e else 0) if k == 1 else 0
    if k > 1:
        table = sum(size * (e // k**i) + (e // k**i) * d for i, size in enumerate(sizes))
    softmax = n + (d * e if k > 1 or d != e else 0) + (len(sizes) - 1) * (e + 1)
    return table + softmax + sum(5 * d * d + 2 * d + 2 * d * i + i + d + 4 * d for i in inner)


@pytest.mark.parametrize(("width", "divide"), [("128", "1"), ("128", "2"), ("64", "1"), ("256", "4")])
def test_transformer_xl_follows_the_rule_of_its_parameters(width: str, divide: str) -> None:
    row = {"family": "transformer_xl", "d_model": "128", "d_embed": width, "div_val": divide, "n_token": "267736"}
    row |= {"n_head": "2-8", "d_inner": "600-700"}
    assert read(row, size="lts-xl").graph().params == by_rule(row)


@pytest.mark.parametrize(
    ("width", "depth", "heads", "keys", "params"),
    [(256, 80, 2, 1, 104_440_064), (384, 13, 3, 1, 66_758_784), (1536, 50, 12, 6, 1_924_161_024)],
)
def test_gemstones_have_their_parameters_and_keys(width: int, depth: int, heads: int, keys: int, params: int) -> None:
    row = {"width": str(width), "depth": str(depth), "heads": str(heads), "kv_heads": str(keys)}
    graph = read(row, size="gemstones").graph()
    assert graph.params == params
    assert set(decoding_of(graph).cached) == {(128 * keys, 4)}


def gemma(net: torch.nn.Module, tokens: list[int], heads: int, keys: int) -> torch.Tensor:
    """Answer as Gemma does, head by head and token by token."""
    own = {name: p.detach() for name, p in net.named_parameters()}
    depth = len({name.split(".")[1] for name in own if name.startswith("layers.")})
    x = own["words.table.weight"][tokens]
    x = x * x.shape[1] ** 0.5

    def normed(x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.pow(2).mean(1, keepdim=True) + 1e-6).sqrt() * own[f"{name}.weight"]

    def rotated(x: torch.Tensor) -> torch.Tensor:
        half = x.shape[1] // 2
        angle = torch.outer(torch.arange(len(x)), 10000.0 ** (-torch.arange(half) / half))
        turned = torch.complex(x[:, :half], x[:, half:]) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([turned.real, turned.imag], 1)

    for i in range(depth):
        at = f"layers.layer{i}"
        y = normed(x, f"{at}.norm1")
        q, k, v = ((y @ own[f"{at}.attention.{n}.weight"].T).split(8, 1) for n in "qkv")
        answers = []
        for h in range(heads):
            key, value = k[h * keys // heads], v[h * keys // heads]
            scores = rotated(q[h]) @ rotated(key).T / 8**0.5
            scores[torch.ones_like(scores).triu(1) > 0] = float("-inf")
            answers.append(scores.softmax(1) @ value)
        x = x + torch.cat(answers, 1) @ own[f"{at}.attention.out.weight"].T
        y = normed(x, f"{at}.norm2")
        gate, up = (y @ own[f"{at}.mlp.{n}.weight"].T for n in ("gate", "up"))
        gate = 0.5 * gate * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (gate + 0.044715 * gate**3)))
        x = x + (gate * up) @ own[f"{at}.mlp.down.weight"].T
    return normed(x, "norm") @ own["words.head.weight"].T


@pytest.mark.parametrize(("width", "heads", "keys"), [(24, 3, 1), (32, 4, 2)])
def test_gemstones_answer_as_gemma_does(width: int, heads: int, keys: int) -> None:
    row = {"width": str(width), "depth": "2", "heads": str(heads), "kv_heads": str(keys)}
    torch.manual_seed(0)
    net = read(row, size="gemstones-mini").build().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn_like(p) * 0.3)
        tokens = torch.randint(32, (9,)).tolist()
        assert torch.allclose(net(torch.tensor([tokens]))[0], gemma(net, tokens, heads, keys), atol=1e-5)


@pytest.mark.skipif("NASPLAT_NAS" not in os.environ, reason="NASPLAT_NAS names no folder of labelled architectures")
def test_all_rows_of_the_gemstones_have_their_parameters() -> None:
    with gzip.open(Path(os.environ["NASPLAT_NAS"]) / "gemstones.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 30
    for row in rows:
        assert read(row, size="gemstones").graph().params == int(row["params"]), row["run"]


@pytest.mark.skipif("NASPLAT_NAS" not in os.environ, reason="NASPLAT_NAS names no folder of labelled architectures")
def test_drawn_rows_of_the_tables_have_their_parameters() -> None:
    folder = Path(os.environ["NASPLAT_NAS"])
    rows = {name: list(csv.DictReader(gzip.open(folder / f"{name}.csv.gz", "rt"))) for name in ("hwgpt", "archai_lts")}
    rng = random.Random(0)
    for row in rng.sample(rows["hwgpt"], 12):
        assert read(row, size=f"hwgpt-{row['scale'].lower()}").graph().params == int(row["params"])
    # the random GPT-2 of lm1b were counted as another network: see the table's own rules
    told = [row for row in rows["archai_lts"] if row["set"] != "random_GPT2_lm1b"]
    for row in rng.sample(told, 24):
        size = "lts-gpt2" if row["family"] == "gpt2" else "lts-xl"
        presets = {"vocabulary": int(row["n_token"]), "length": int(row["tgt_len"]), "bands": row["dataset"]}
        assert read(row, size=size, **presets).graph().params == int(row["params_total"]), row["name"]


def test_lines_of_other_decoders_are_refused() -> None:
    with pytest.raises(SpaceError, match=r"expected a decoder of size='mini', got a Gemstone\.\n.*size='gemstones'"):
        nasplat.load_space("gpt").parse('{"width": 256, "depth": 3}')
    with pytest.raises(SpaceError, match="expected 4 kv_heads of width 1024 with head_dim=128, got 8"):
        read({"width": "1024", "depth": "28", "heads": "8", "kv_heads": "8"}, size="gemstones")
    with pytest.raises(
        SpaceError, match="heads that fill the width and share keys evenly, got width 1280 and head_dim=256"
    ):
        nasplat.load_space("gpt", size="gemstones", head_dim=256).parse('{"width": 1280, "depth": 3}').build()
    with pytest.raises(SpaceError, match=r"expected a decoder of scale 'M'.*got 'S'"):
        read(HWGPT | {"scale": "S", "embed": "256", "bias": "0"}, size="hwgpt-m")
    with pytest.raises(SpaceError, match=r"expected a decoder of n_token 267736.*got 50264"):
        read(LTS[0][0] | {"family": "transformer_xl"}, size="lts-xl")
    with pytest.raises(SpaceError, match="as many heads as mlp_ratio, got 1 and 2"):
        nasplat.load_space("gpt").parse('{"embed": 16, "heads": [1], "mlp_ratio": [1, 1], "bias": 0}')


@pytest.mark.parametrize("cell", ["", "wide", "1024.5"])
def test_cells_that_make_no_architecture_are_refused_by_line(cell: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(f"width,depth,heads,kv_heads,loss\n1024,28,8,4,2.7\n{cell},28,8,4,2.7\n", encoding="utf-8")
    with pytest.raises(TableError, match=rf"rows.csv:3: expected cells that make .* got width='{cell}'.*ValueError: "):
        nasplat.load_table(file, space=nasplat.load_space("gpt", size="gemstones"), metric="loss")


SMALL = {"lts-gpt2": 2, "lts-xl": 4, "mini": 1, "gemstones-mini": 1}


def small(size: str, divide: int) -> nasplat.Architecture:
    space = nasplat.load_space("gpt", size=size, vocabulary=50, length=10)
    choices = {"embed": 64, "depth": 2, "tokens.width": 64, "tokens.divide": divide, "bias": 1}
    choices |= {f"layer{i}.{k}": v for i in (0, 1) for k, v in {"heads": 2, "hidden": 128, "ratio": 2}.items()}
    return space.project({k: v for k, v in (space.sample(seed=0).choices | choices).items()})


@pytest.mark.parametrize("size", SMALL)
def test_no_answer_depends_on_later_tokens_and_shorter_sequences_answer_alike(size: str) -> None:
    member = small(size, SMALL[size])
    torch.manual_seed(0)
    net = member.build().eval()
    tokens = torch.randint(50, (2, 10))
    other = tokens.clone()
    other[:, 6:] = (other[:, 6:] + 7) % 50
    with torch.no_grad():
        first, second, short = net(tokens), net(other), net(tokens[:, :6])
    assert first.shape == (2, 10, 50)
    assert torch.allclose(first[:, :6], second[:, :6], atol=1e-5)
    assert not torch.allclose(first[:, 6:], second[:, 6:], atol=1e-3)
    assert torch.allclose(first[:, :6], short, atol=1e-5)


def test_adaptive_softmax_gives_probabilities_and_agrees_with_its_bands() -> None:
    from torch.nn import AdaptiveLogSoftmaxWithLoss

    space = nasplat.load_space("gpt", size="lts-xl", vocabulary=50, length=10)
    bands = space.function.__globals__["Bands"]([20, 30, 50], 8, 8, 2, False)
    theirs = AdaptiveLogSoftmaxWithLoss(8, 50, [20, 30], div_value=2.0)
    with torch.no_grad():  # torch's clusters have no biases, and the first band no projection
        torch.nn.init.eye_(bands.outof["band0"].weight)
        bands.rare.bias.zero_()
        theirs.head.weight.copy_(torch.cat([bands.tables["band0"].weight, bands.rare.weight]))
        for i, tail in enumerate(theirs.tail, start=1):
            tail[0].weight.copy_(bands.outof[f"band{i}"].weight)
            tail[1].weight.copy_(bands.tables[f"band{i}"].weight)
        x = torch.randn(6, 8)
        assert torch.allclose(bands.answer(x[None])[0], theirs.log_prob(x), atol=1e-5)


def test_supernet_learns_sentences_and_its_subnets_become_files_for_any_length(tmp_path: Path) -> None:
    task = nasplat.load_task("sentences?train=96&decide=16&test=16&length=12")
    space = nasplat.load_space("gpt").for_task(task)
    assert space.from_task == "length=12, vocabulary=32 from the task"
    supernet = nasplat.Supernet(space, task, seed=0)
    member = space.extreme(False)
    before = supernet.evaluate(member)
    supernet.train(epochs=4, batch_size=32, lr=0.01)
    assert supernet.evaluate(member) < before
    net = supernet.subnet(member).eval()
    x = task.decide.x[:3]
    assert torch.equal(net(x), supernet.shared(member).eval()(x))
    found = nasplat.export(net, tmp_path / "net.onnx", member.example_input, task=task)
    assert found.inputs[0]["shape"] == ["batch", "length"]
    assert {row.get("length") for row in found.checks} >= {1, 2, 6, 11, 25}
    assert found.max_relative_error < 1e-4


def test_gemstones_share_weights() -> None:
    space = nasplat.load_space("gpt", size="gemstones-mini", length=8)
    supernet = nasplat.Supernet(space, nasplat.load_task("sentences?train=8&decide=8&test=8&length=8"), seed=0)
    member = space.parse('{"width": 24, "depth": 2}')
    assert space.format(member) == '{"width": 24, "depth": 2}'
    tokens = torch.randint(32, (2, 8))
    assert torch.equal(supernet.subnet(member).eval()(tokens), supernet.shared(member).eval()(tokens))


@pytest.mark.slow
def test_gemstones_become_files_for_any_length(tmp_path: Path) -> None:
    member = nasplat.load_space("gpt", size="gemstones-mini", length=8).parse('{"width": 32, "depth": 2}')
    found = nasplat.export(member.build().eval(), tmp_path / "net.onnx", member.example_input)
    assert found.inputs[0]["shape"] == ["batch", "length"]
    assert {row.get("length") for row in found.checks} >= {1, 2, 4, 7}
    assert found.max_relative_error < 1e-4


class Placed(torch.nn.Module):
    """Tokens and places of at most eight."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = torch.nn.Embedding(9, 4), torch.nn.Parameter(torch.randn(8, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tokens(x) + self.places[: x.shape[1]]


def test_learned_positions_bound_the_length_of_a_file(tmp_path: Path) -> None:
    found = nasplat.export(Placed(), tmp_path / "net.onnx", torch.arange(8)[None])
    assert found.inputs[0]["shape"] == ["batch", "length"]
    assert {row.get("length") for row in found.checks} == {None, 1, 2, 4, 7}


class Flattened(Placed):
    """Answers that need the very length."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).flatten(1) @ torch.ones(32, 2)


def test_files_of_one_length_say_so(tmp_path: Path) -> None:
    found = nasplat.export(Flattened(), tmp_path / "net.onnx", torch.arange(8)[None])
    assert found.inputs[0]["shape"] == ["batch", 8]
    assert found.notes[0].startswith("the file takes sequences of 8 tokens alone: ")
    assert "constant" in found.notes[0]


def test_sentences_repeat_with_their_seeds_and_keep_their_rules() -> None:
    first, again, other = (compose(200, seed) for seed in (0, 0, 1))
    assert first.x.equal(again.x)
    assert not first.x.equal(other.x)
    assert first.x[:, 1:].equal(first.y[:, :-1])
    for row in first.x.tolist():
        opened, meanings = [], dict[int, int]()
        for i, token in enumerate(row):
            if 24 <= token < 28 and i + 1 < len(row):
                assert meanings.setdefault(token, row[i + 1]) == row[i + 1]
            opened += [token] if token in (28, 29) else []
            assert token < 30 or opened.pop() == token - 2


def test_bytes_of_a_text_are_a_task(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("to be, or not to be: " * 20, encoding="utf-8")
    task = nasplat.load_task(f"text:{file}?length=8")
    assert task.shapes == {"length": 8, "vocabulary": 9, "classes": 9}
    assert "".join(task.class_names[i] for i in task.train.x[0]) == "to be, o"
    assert "".join(task.class_names[i] for i in task.train.y[0]) == "o be, or"
    with pytest.raises(TaskError, match=r"a text of at least 610 bytes.*got 420"):
        nasplat.load_task(f"text:{file}?length=60")
    with pytest.raises(TaskError, match="expected a file of text"):
        nasplat.load_task("text:nowhere.txt")
    with pytest.raises(TaskError, match="sentences expected length as a whole number from 2, got 1"):
        nasplat.load_task("sentences?length=1")


def test_scores_of_tokens_are_compared_on_the_last_axis() -> None:
    scores, target = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    wanted = torch.nn.functional.cross_entropy(scores.transpose(1, 2), target)
    assert torch.allclose(token_loss(scores, target), wanted)
    assert torch.allclose(token_nats(scores, target).mean(), wanted)
    with pytest.raises(TaskError, match=r"scores \(n, …, classes\).*got shapes \(3, 7, 5\) and \(3, 5\)"):
        token_loss(scores.transpose(1, 2), target)
    task = nasplat.load_task("sentences?train=4&decide=4&test=4&length=12")
    with pytest.raises(TaskError, match="expected scores of 32 classes, got 9"):
        task.objective(torch.zeros(4, 12, 9), task.train.y)
