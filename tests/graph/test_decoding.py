"""What a decoder's tokens cost: attention found in any form, other lengths told exactly, caches as large as published configurations say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

import nasplat
from nasplat.errors import GraphError, InputError, SearchError
from nasplat.graph.decoding import decoding_of
from nasplat.graph.quantities import Quantity, count, refusal
from nasplat.probes.onnx_writer import to_onnx

pytestmark = pytest.mark.fast


@dataclass(frozen=True)
class Config:
    """What a published config.json says of attention."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int


# config.json of each model on huggingface.co; bytes in float32 of one token, as transformers 5.24 caches (DynamicCache) hold
# them after a pass of such a model without weights
CONFIGS = {
    "openai-community/gpt2": (Config(12, 12, 12, 64), 73_728),
    "openai-community/gpt2-xl": (Config(48, 25, 25, 64), 614_400),
    "EleutherAI/pythia-1.4b": (Config(24, 16, 16, 128), 393_216),
    "meta-llama/Llama-2-7b-hf": (Config(32, 32, 32, 128), 1_048_576),
    "meta-llama/Llama-2-70b-hf": (Config(80, 64, 8, 128), 655_360),
    "meta-llama/Meta-Llama-3-8B": (Config(32, 32, 8, 128), 262_144),
    "Qwen/Qwen2-0.5B": (Config(24, 14, 2, 64), 24_576),
    "google/gemma-2b": (Config(18, 8, 1, 256), 36_864),
    "tiiuae/falcon-7b": (Config(32, 71, 1, 64), 16_384),
    "microsoft/phi-2": (Config(32, 32, 32, 80), 655_360),
    "HuggingFaceTB/SmolLM2-135M": (Config(30, 9, 3, 64), 46_080),
}


class Attention(nn.Module):
    """Heads that may share keys and values, in one of the ways in which networks write it."""

    def __init__(self, c: Config, way: str, dim: int = 8) -> None:
        super().__init__()
        self.c, self.way = c, way
        self.q = nn.Linear(dim, c.heads * c.head_dim)
        self.kv = nn.Linear(dim, 2 * c.kv_heads * c.head_dim)  # packed, as many networks do
        self.out = nn.Linear(c.heads * c.head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        c, (n, length, _) = self.c, x.shape
        q = self.q(x).view(n, length, c.heads, c.head_dim).transpose(1, 2)
        k, v = (t.view(n, length, c.kv_heads, c.head_dim).transpose(1, 2) for t in self.kv(x).chunk(2, -1))
        if self.way == "grouped":
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            return self.out(y.transpose(1, 2).flatten(2))
        if self.way == "interleaved":
            k, v = (t.repeat_interleave(c.heads // c.kv_heads, 1) for t in (k, v))
        else:
            shape = (n, c.kv_heads, c.heads // c.kv_heads, length, c.head_dim)
            k, v = (t[:, :, None].expand(shape).reshape(n, c.heads, length, c.head_dim) for t in (k, v))
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        if self.way == "masked":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=~hidden)
        elif self.way == "added":  # ALiBi's way
            bias = torch.zeros(length, length).masked_fill(hidden, -1e9).expand(n * c.heads, length, length)
            scores = torch.baddbmm(bias, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))
            y = (scores.softmax(-1) @ v.flatten(0, 1)).unflatten(0, (n, c.heads))
        else:
            scores = (q @ k.transpose(2, 3) * c.head_dim**-0.5).masked_fill(hidden, float("-inf"))
            y = F.dropout(scores.softmax(-1), 0.1, self.training) @ v
        return self.out(y.transpose(1, 2).flatten(2))


class Decoder(nn.Module):
    """Tokens, attention, tokens."""

    def __init__(self, c: Config, way: str, last: bool = False) -> None:
        super().__init__()
        self.words, self.head, self.last = nn.Embedding(10, 8), nn.Linear(8, 10), last
        self.layers = nn.Sequential(*(Attention(c, way) for _ in range(c.layers)))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.layers(self.words(tokens))
        return self.head(x[:, -1] if self.last else x)


WAYS = ("grouped", "repeated", "masked", "added", "interleaved")


def tokens(length: int, n: int = 1) -> Tensor:
    return torch.zeros(n, length, dtype=torch.int64)


@pytest.mark.parametrize("name", CONFIGS)
def test_caches_are_as_large_as_those_of_published_models(name: str) -> None:
    config, bytes_per_token = CONFIGS[name]
    way = WAYS[list(CONFIGS).index(name) % len(WAYS)]
    with torch.device("meta"):
        found = decoding_of(nasplat.capture(Decoder(config, way).eval(), tokens(4), program=False))
    assert found.kv_bytes() == bytes_per_token == 4 * 2 * config.layers * config.kv_heads * config.head_dim
    assert found.kv_bytes(4096, 8, "bfloat16") == 8 * 4096 * bytes_per_token // 2
    assert found.layers == config.layers


@pytest.mark.parametrize("way", WAYS)
def test_other_lengths_and_batches_are_told_from_one_capture(way: str) -> None:
    net = Decoder(Config(2, 4, 2, 6), way).eval()
    found = decoding_of(nasplat.capture(net, tokens(5, 3)))
    for length, n in ((5, 3), (9, 3), (2, 1), (16, 4)):
        assert found.prefill_macs(length, n) == nasplat.capture(net, tokens(length, n)).macs
    # a prompt, token by token: each looks at itself and at all before it, which is half the pairs of a pass, and the diagonal
    steps = sum(found.decode_macs(cache) for cache in range(8))
    assert found.prefill_macs(8) - steps == found.pair_macs * (8 * 8 - 8 * 9 // 2)
    assert found.decode_macs(7, 5) == 5 * found.decode_macs(7)


def test_head_on_the_last_token_counts_once() -> None:
    net = Decoder(Config(1, 2, 2, 4), "repeated", last=True).eval()
    found = decoding_of(nasplat.capture(net, tokens(6)))
    assert found.sequence_macs == 80
    assert found.prefill_macs(13) == nasplat.capture(net, tokens(13)).macs


@pytest.mark.parametrize("size", ["mini", "lts-gpt2", "lts-xl"])
def test_decoders_of_the_space_are_told_at_any_length(size: str) -> None:
    space = nasplat.load_space("gpt", size=size, vocabulary=60, length=7)
    member = space.sample(seed=1)
    found = decoding_of(member.graph())
    assert found.prefill_macs() == member.graph().macs
    assert found.prefill_macs(12) == space.with_presets(length=12).project(member.choices).graph().macs
    if size != "mini":  # heads share the embedding's width
        assert found.kv_bytes() == 2 * 4 * int(member.choices["embed"]) * int(member.choices["depth"])


def test_files_in_onnx_are_told_too(tmp_path: Path) -> None:
    net = Decoder(Config(1, 4, 2, 6), "repeated").eval()
    wanted = decoding_of(nasplat.capture(net, tokens(6)))
    (tmp_path / "net.onnx").write_bytes(to_onnx(net, tokens(6), 18).data)
    found = decoding_of(nasplat.capture(str(tmp_path / "net.onnx"), tokens(6)))
    assert (found.decode_macs(100), found.kv_bytes()) == (wanted.decode_macs(100), wanted.kv_bytes())


@pytest.mark.parametrize(("low", "message"), [(-1e9, ""), (0.0, "not known to hide later tokens")])
def test_stored_masks_of_files_are_looked_at(low: float, message: str, tmp_path: Path) -> None:
    later = np.triu(np.full((5, 5), low, np.float32), 1)
    node, info = helper.make_node, helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            node("Gather", ["table", "tokens"], ["x"]),
            node("Transpose", ["x"], ["xt"], perm=[0, 2, 1]),
            node("MatMul", ["x", "xt"], ["scores"]),
            node("Constant", [], ["mask"], value=numpy_helper.from_array(later)),
            node("Add", ["scores", "mask"], ["masked"]),
            node("Softmax", ["masked"], ["shares"]),
            node("MatMul", ["shares", "x"], ["y"]),
        ],
        "net",
        [info("tokens", TensorProto.INT64, [1, 5])],
        [info("y", TensorProto.FLOAT, [1, 5, 4])],
        [numpy_helper.from_array(np.ones((9, 4), np.float32), "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "net.onnx")
    captured = nasplat.capture(str(tmp_path / "net.onnx"))
    if message:
        with pytest.raises(GraphError, match=message):
            decoding_of(captured)
    else:
        assert decoding_of(captured).kv_bytes() == 16  # keys are values here, and kept once


class Encoder(nn.Module):
    """Attention to all tokens, perhaps but those that a mask leaves out."""

    def __init__(self, padded: bool) -> None:
        super().__init__()
        self.words, self.padded = nn.Embedding(10, 8), padded

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x)[:, None]
        mask = (x > 0)[:, None, None].expand(-1, 1, x.shape[1], -1) if self.padded else None
        return F.scaled_dot_product_attention(y, y, y, attn_mask=mask)


class Latent(nn.Module):
    """Heads that share a part of their keys, as latent attention has them."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.q, self.k, self.r = nn.Embedding(10, 8), nn.Linear(8, 24), nn.Linear(8, 16), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.words(x)
        q, k = (f(x).unflatten(2, (2, -1)).transpose(1, 2) for f in (self.q, self.k))
        k = torch.cat([k, self.r(x)[:, None].expand(-1, 2, -1, -1)], -1)
        return F.scaled_dot_product_attention(q, k, k, is_causal=True)


class Crossed(nn.Module):
    """Attention of tokens to others."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.words(x)
        return F.scaled_dot_product_attention(y, y[:, :3], y[:, :3])


@pytest.mark.parametrize(
    ("net", "example", "message"),
    [
        (nn.Linear(4, 4), (1, 4), "no table of tokens"),
        (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4)), tokens(5), "no attention among tokens"),
        (Encoder(False), tokens(5), "not known to hide later tokens"),
        (Encoder(True), tokens(5), "not known to hide later tokens"),
        (Latent(), tokens(5), "keys put together of parts at .*latent attention"),
        (Crossed(), tokens(5), "among the 5 tokens of the input, got one of 5 to 3"),
        (Decoder(Config(1, 2, 2, 4), "repeated"), tokens(1), r"two tokens or more, got an input of shape \(1, 1\)"),
    ],
)
def test_other_networks_are_refused_with_the_reason(net: nn.Module, example: object, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        decoding_of(nasplat.capture(net.eval(), example))


def test_quantities_are_named_with_their_conditions() -> None:
    graph = nasplat.capture(Decoder(Config(2, 4, 2, 6), "grouped").eval(), tokens(5))
    found = decoding_of(graph)
    assert count(graph, "decode_macs@8x300") == found.decode_macs(300, 8)
    assert count(graph, "prefill_macs") == count(graph, "macs") == graph.macs
    assert count(graph, "kv_bytes") == 2 * 2 * 2 * 6 * 4
    assert count(graph, "kv_bytes@7,int4") == 7 * 2 * 2 * 2 * 6 // 2
    assert count(graph, "weight_bytes") == 4 * graph.params == 8 * count(graph, "weight_bytes@int4")
    assert count(graph, "weight_bytes@bf16") == 2 * graph.params
    assert Quantity.of("kv_bytes@fp8,2x5") == Quantity("kv_bytes", 5, 2, "float8_e4m3fn")


@pytest.mark.parametrize(
    "name",
    ["macs@5", "decode_macs@0", "decode_macs@x4", "kv_bytes@4,5", "weight_bytes@4", "decode_macs@bf16", "kv_bytes@"],
)
def test_conditions_that_a_quantity_has_not_are_refused(name: str) -> None:
    assert "expected conditions such as decode_macs@4096" in refusal(name)


def test_unknown_quantities_are_listed() -> None:
    assert refusal("flops@3").startswith("expected a quantity among macs, params, activation_bytes, weight_bytes")


@nasplat.space(example_input=tokens(6))
def shared(pick: nasplat.Pick) -> nn.Module:
    layers, heads = pick("layers", (1, 2, 3)), pick("kv_heads", (1, 2, 4))
    return Decoder(Config(layers, 4, heads, 6), "repeated")


def test_searches_keep_limits_on_tokens() -> None:
    limits = {"kv_bytes@64,bf16": 6_200, "decode_macs@64": 7_500, "weight_bytes@int8": 1_500}
    inside = [a for a in shared.enumerate() if all(count(a.graph(), q) <= most for q, most in limits.items())]
    assert 2 <= len(inside) <= 5
    study = nasplat.search(
        shared,
        maximize=[nasplat.Counted("params")],
        minimize=["decode_macs@64"],
        limits=limits,
        n_trials=len(inside),
        sampler=nasplat.UniqueRandomSampler(0),
    )
    assert {shared.from_trial(t) for t in study.trials} == set(inside)
    assert {t.values[1] for t in study.trials} == {count(a.graph(), "decode_macs@64") for a in inside}
    assert shared.sample(seed=3, limits=limits) in inside
    with pytest.raises(SearchError, match="limit on kv_bytes cannot be kept: expected a decoder"):
        nasplat.search(
            nasplat.load_space("mlp"), maximize=[nasplat.Counted("params")], limits={"kv_bytes": 5}, n_trials=1
        )


def test_runs_take_limits_with_conditions() -> None:
    run = nasplat.SearchRun("gpt", limits={"decode_macs@4096": 2e9}, minimize="kv_bytes@4096,bf16")
    assert nasplat.SearchRun.from_words(run.to_words()[1:]) == run
    with pytest.raises(InputError, match=r"expected limits on .* got 'kv_bytes@y'"):
        nasplat.SearchRun("gpt", limits={"kv_bytes@y": 1})
    with pytest.raises(InputError, match="expected cut on"):
        nasplat.ImproveRun("net.onnx", cut={"kv_bytes@4": 0.2})
