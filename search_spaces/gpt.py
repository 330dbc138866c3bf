"""Decoders that predict the next token: HW-GPT-Bench's, Archai's Litetransformersearch's, and the Gemstones.

Sources: Sukthanker et al. 2024, arXiv:2405.10299 (sizes hwgpt-s, -m, -l: rotary positions, attention and a gated MLP
side by side, heads of 64); Javaheripi et al., NeurIPS 2022, arXiv:2203.02094 (lts-gpt2 and lts-xl: GPT-2 and
Transformer-XL, adaptive embedding and softmax, heads that share the embedding's width); McLeish et al., NeurIPS 2025,
arXiv:2502.06857 (gemstones: width and depth of Gemma, Mesnard et al. 2024, arXiv:2403.08295; heads of 128, two of which
share their keys); mini and gemstones-mini are ours, built as the first and the last. Parameters are the published ones
to the last. Differences: Transformer-XL has no memory of the segment before; tokens are looked up in every band of the
adaptive embedding, and the answer holds the log-probability of every token, so that shapes do not hang on the data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nasplat import Option, Pick, SpaceError, block, space
from nasplat.blocks import PositionTable, chain


@dataclass(frozen=True)
class Size:
    """Options of a size, and what all its members have in common."""

    embeds: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...] = ()
    """Heads of a layer; none to pick where all layers are Gemma's, with as many heads as the embedding has room for."""
    hidden: tuple[int, ...] = ()
    """Widths of the MLP: times the embedding where heads have a width of their own, else in numbers."""
    head_dim: int = 64
    """Numbers of a head; 0 where the heads share the embedding's width."""
    positions: str = "rotary"
    vocabulary: int = 50254
    length: int = 1024


LTS = Size(
    tuple(range(64, 1025, 64)),
    tuple(range(2, 17)),
    (2, 4, 8),
    tuple(range(128, 4097)),
    0,
    "learned",
    50264,
    192,
)
SIZES = {
    "mini": Size((16, 32, 48, 64), (1, 2, 3, 4), (1, 2, 4), (1, 2, 4), 16, vocabulary=32, length=64),
    "hwgpt-s": Size((192, 384, 768), (10, 11, 12), (4, 8, 12), (2, 3, 4)),
    "hwgpt-m": Size((256, 512, 1024), (22, 23, 24), (8, 12, 16), (2, 3, 4)),
    "hwgpt-l": Size((320, 640, 1280), (34, 35, 36), (8, 16, 20), (2, 3, 4)),
    "lts-gpt2": LTS,
    "lts-xl": replace(LTS, positions="relative", vocabulary=267736),
    "gemstones": Size(
        (256, 384, 512, 768, 1024, 1280, 1536, 1792, 2048, 2560, 3072),
        tuple(range(3, 81)),
        head_dim=128,
        vocabulary=50304,
        length=2048,
    ),
    "gemstones-mini": Size((16, 24, 32, 64), (1, 2, 3, 4), head_dim=8, vocabulary=32, length=64),
}
ENDS = {"wikitext103": (19997, 39997, 199997), "lm1b": (59997, 99997, 639997)}
"""First token behind each band of the adaptive embedding, by the text that it was made for."""
FAMILIES = {"lts-gpt2": "gpt2", "lts-xl": "transformer_xl", "hwgpt-s": "S", "hwgpt-m": "M", "hwgpt-l": "L"}
"""What the tables call a size."""


def turned(x: Tensor, part: float) -> Tensor:
    """Turn the first part of every head's numbers (B, heads, T, d) by angles that grow with the position."""
    half = int(x.shape[3] * part) // 2
    steps = torch.arange(x.shape[2], device=x.device, dtype=x.dtype)
    speeds = 10000.0 ** (torch.arange(half, device=x.device, dtype=x.dtype) / -half)
    angle = steps[:, None] * speeds
    a, b, rest = x.split([half, half, x.shape[3] - 2 * half], 3)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin(), rest], 3)


def distances(x: Tensor) -> Tensor:
    """Encode the distances T - 1 … 0 by waves, shape (T, embed), for tokens of shape (B, T, embed)."""
    steps = torch.arange(x.shape[1], device=x.device, dtype=x.dtype).flip(0)
    speeds = 10000.0 ** (torch.arange(0, x.shape[2], 2, device=x.device, dtype=x.dtype) / -x.shape[2])
    angle = steps[:, None] * speeds
    return torch.cat([angle.sin(), angle.cos()], 1)


@block
class Attention(nn.Module):
    """Every token looks at itself and at those before it."""

    def __init__(self, embed: int, heads: int, width: int, bias: bool, rotary: float) -> None:
        """Build heads that have `width` numbers together; rotary is the share of them that turns with the position."""
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.q, self.k, self.v = (nn.Linear(embed, width, bias) for _ in range(3))
        self.out = nn.Linear(width, embed, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, T, embed)."""
        q, k, v = (p(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for p in (self.q, self.k, self.v))
        if self.rotary:
            q, k = turned(q, self.rotary), turned(k, self.rotary)
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


@block
class SharedAttention(Attention):
    """Attention whose heads share a width, however many they are: fewer heads do not read the first ones of many."""

    slicing: ClassVar[dict[str, str]] = {"*": "leading"}


@block
class GroupedAttention(nn.Module):
    """Attention whose heads look by two at the same keys and values: Ainslie et al. 2023, arXiv:2305.13245.

    Narrower networks take the first heads and the first keys, which puts heads together that are apart in wider ones
    where the width holds an odd number of heads.
    """

    slicing: ClassVar[dict[str, str]] = {"*": "leading"}

    def __init__(self, embed: int, head_dim: int) -> None:
        """Build as many heads as the embedding has room for, and half as many keys and values, or one."""
        super().__init__()
        self.head_dim, self.heads = head_dim, embed // head_dim
        self.groups = keys_of(self.heads)
        self.q, self.out = nn.Linear(embed, embed, False), nn.Linear(embed, embed, False)
        self.k, self.v = (nn.Linear(embed, self.groups * head_dim, False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, T, embed)."""
        q, k, v = (p(x).unflatten(2, (-1, self.head_dim)).transpose(1, 2) for p in (self.q, self.k, self.v))
        q, k = turned(q, 1.0), turned(k, 1.0)
        k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


def keys_of(heads: int) -> int:
    """Tell how many keys and values the Gemstones have for a number of heads."""
    return max(1, heads // 2)


@block
class RelativeAttention(nn.Module):
    """Attention of Transformer-XL, which sees how far a token is away: Dai et al. 2019, arXiv:1901.02860."""

    slicing: ClassVar[dict[str, str | tuple[str]]] = {
        "*.weight": "leading",
        "content": ("leading",),
        "place": ("leading",),
    }

    def __init__(self, embed: int, heads: int) -> None:
        """Build heads that share the embedding's width."""
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.r, self.out = (nn.Linear(embed, embed, False) for _ in range(5))
        self.content, self.place = nn.Parameter(torch.zeros(embed)), nn.Parameter(torch.zeros(embed))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, T, embed)."""
        q, k, v, r = self.q(x), self._split(self.k(x)), self._split(self.v(x)), self._split(self.r(distances(x))[None])
        what = self._split(q + self.content) @ k.transpose(2, 3)
        where = F.pad(self._split(q + self.place) @ r.transpose(2, 3), (1, 0))
        where = where.flatten(2).unflatten(2, (x.shape[1] + 1, x.shape[1]))[:, :, 1:]  # each row a step further
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        scores = ((what + where) * k.shape[3] ** -0.5).masked_fill(hidden, float("-inf"))
        return self.out((scores.softmax(3) @ v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        """Tell heads apart: (B, T, embed) to (B, heads, T, d)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


@block
class Gated(nn.Module):
    """MLP one half of which decides how much of the other passes."""

    def __init__(self, embed: int, hidden: int, bias: bool, is_gelu: bool = False) -> None:
        """Build both halves and the way back; the gate is SiLU, or GELU by tanh, as in Gemma."""
        super().__init__()
        self.is_gelu = is_gelu
        self.gate, self.up = nn.Linear(embed, hidden, bias), nn.Linear(embed, hidden, bias)
        self.down = nn.Linear(hidden, embed, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, T, embed)."""
        gate = self.gate(x)
        return self.down((F.gelu(gate, approximate="tanh") if self.is_gelu else F.silu(gate)) * self.up(x))


class SideBySide(nn.Module):
    """Layer of HW-GPT-Bench: attention and MLP read the same tokens, and both are added."""

    def __init__(self, embed: int, heads: int, hidden: int, head_dim: int, bias: bool, rotary: float) -> None:
        """Build a layer."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(embed), nn.LayerNorm(embed)
        self.attention = Attention(embed, heads, heads * head_dim, bias, rotary)
        self.mlp = Gated(embed, hidden, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, T, embed)."""
        return x + self.attention(self.norm1(x)) + self.mlp(self.norm2(x))


class Layer(nn.Module):
    """Layer of GPT-2 or, with relative positions, of Transformer-XL, which normalises sums instead of summands."""

    def __init__(self, embed: int, heads: int, hidden: int, relative: bool) -> None:
        """Build a layer."""
        super().__init__()
        self.relative = relative
        self.norm1, self.norm2 = nn.LayerNorm(embed), nn.LayerNorm(embed)
        self.attention = (
            RelativeAttention(embed, heads) if relative else SharedAttention(embed, heads, embed, True, 0.0)
        )
        self.fc1, self.fc2 = nn.Linear(embed, hidden), nn.Linear(hidden, embed)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, T, embed)."""
        if self.relative:
            x = self.norm1(x + self.attention(x))
            return self.norm2(x + self.fc2(F.relu(self.fc1(x))))
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class GemmaLayer(nn.Module):
    """Layer of Gemma, whose MLP is four times as wide as the embedding."""

    def __init__(self, embed: int, head_dim: int) -> None:
        """Build a layer."""
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(embed, 1e-6), nn.RMSNorm(embed, 1e-6)
        self.attention, self.mlp = GroupedAttention(embed, head_dim), Gated(embed, 4 * embed, False, is_gelu=True)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, T, embed)."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Scale(nn.Module):
    """Multiply embeddings by the square root of their width, as Gemma does."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, T, embed)."""
        return x * x.shape[2] ** 0.5


class Positions(PositionTable):
    """Learned position vectors of sequences that may be shorter than the table."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, T, embed)."""
        return x + self.table[:, : x.shape[1]]


class Words(nn.Module):
    """Table of tokens with numbers of its own for the way in and for the way out."""

    def __init__(self, vocabulary: int, embed: int) -> None:
        """Build both ways."""
        super().__init__()
        self.table, self.head = nn.Embedding(vocabulary, embed), nn.Linear(embed, vocabulary, False)

    def read(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T) to (B, T, embed)."""
        return self.table(tokens)

    def answer(self, x: Tensor) -> Tensor:
        """Map (B, T, embed) to scores (B, T, vocabulary)."""
        return self.head(x)


class Bands(nn.Module):
    """Adaptive embedding and softmax: rare tokens have fewer numbers, and their bands one class of the frequent ones.

    Sources: Baevski & Auli 2019, arXiv:1809.10853; Grave et al. 2017, arXiv:1609.04309.
    """

    def __init__(self, ends: Sequence[int], embed: int, width: int, divide: int, shares: bool) -> None:
        """Build bands of width, width / divide, …; where the ways out share, all but the first are the ways in."""
        super().__init__()
        self.starts, self.ends, self.embed, self.divide = (0, *ends[:-1]), tuple(ends), embed, divide
        sizes = [b - a for a, b in zip(self.starts, self.ends, strict=True)]
        widths = [width // divide**i for i in range(len(sizes))]
        whole = divide == 1  # one table of all bands
        self.tables = nn.ModuleDict()
        for i, (size, own) in enumerate([(ends[-1], width)] if whole else zip(sizes, widths, strict=True)):
            self.tables["whole" if whole else f"band{i}"] = nn.Embedding(size, own)
        is_projected = not whole or width != embed
        self.into, self.outof = nn.ModuleDict(), nn.ModuleDict()
        for i, own in enumerate(widths if is_projected else ()):
            if not whole or i == 0:
                self.into[f"band{i}"] = nn.Linear(own, embed, False)
            if i == 0 or not shares:
                self.outof[f"band{i}"] = nn.Linear(embed, own, False)
        self.biases = nn.ParameterList(torch.zeros(size) for size in sizes)
        if len(sizes) > 1:
            self.rare = nn.Linear(width, len(sizes) - 1)

    def read(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T) to (B, T, embed)."""
        if self.divide == 1:
            found = self.tables["whole"](tokens)
            return (self.into["band0"](found) if self.into else found) * self.embed**0.5
        total = None
        for i, (start, end) in enumerate(zip(self.starts, self.ends, strict=True)):
            own = self.into[f"band{i}"](self.tables[f"band{i}"]((tokens - start).clamp(0, end - start - 1)))
            own = own * ((tokens >= start) & (tokens < end))[..., None]
            total = own if total is None else total + own
        return total * self.embed**0.5

    def answer(self, x: Tensor) -> Tensor:
        """Map (B, T, embed) to log-probabilities (B, T, vocabulary)."""
        first = self._out(x, 0)
        scores = F.linear(first, self._rows(0), self.biases[0])
        if len(self.ends) == 1:
            return scores.log_softmax(2)
        head = torch.cat([scores, self.rare(first)], 2).log_softmax(2)
        parts = [head[..., : self.ends[0]]]
        for i in range(1, len(self.ends)):
            own = F.linear(self._out(x, i), self._rows(i), self.biases[i]).log_softmax(2)
            parts.append(own + head[..., self.ends[0] + i - 1, None])
        return torch.cat(parts, 2)

    def _rows(self, i: int) -> Tensor:
        """Numbers of the tokens of a band."""
        if self.divide == 1:
            return self.tables["whole"].get_parameter("weight")[self.starts[i] : self.ends[i]]
        return self.tables[f"band{i}"].get_parameter("weight")

    def _out(self, x: Tensor, i: int) -> Tensor:
        """Go from the network's width to a band's."""
        if f"band{i}" in self.outof:
            return self.outof[f"band{i}"](x)
        shared = f"band{0 if self.divide == 1 else i}"
        return x @ self.into[shared].get_parameter("weight") if shared in self.into else x


class Decoder(nn.Module):
    """Tokens, layers, perhaps a norm, tokens."""

    words: Words | Bands

    def __init__(
        self, words: Words | Bands, layers: Iterable[nn.Module], norm: nn.Module, positions: nn.Module
    ) -> None:
        """Put the parts together."""
        super().__init__()
        self.words, self.positions, self.norm = words, positions, norm
        self.layers = chain([(f"layer{i}", layer) for i, layer in enumerate(layers)])

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T) to scores of the next token (B, T, vocabulary)."""
        return self.words.answer(self.norm(self.layers(self.positions(self.words.read(tokens)))))


def example_input(
    size: str = "mini", vocabulary: int | None = None, length: int | None = None, **presets: object
) -> Tensor:
    """Give one sequence whose tokens reach from the first to the last."""
    last = (vocabulary or SIZES[size].vocabulary) - 1
    return torch.linspace(0, last, length or SIZES[size].length).round().long()[None]


@space(example_input=example_input)
def gpt(
    pick: Pick,
    size: str = "mini",
    vocabulary: int | None = None,
    length: int | None = None,
    head_dim: int | None = None,
    rotary: float = 0.25,
    bands: str = "wikitext103",
) -> nn.Module:
    """Build a decoder with picked width and depth, heads and MLP of each layer, biases or the adaptive embedding.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        size: Set of options: 'mini', 'hwgpt-s', 'hwgpt-m', 'hwgpt-l', 'lts-gpt2', 'lts-xl', 'gemstones' or
            'gemstones-mini'.
        vocabulary: Number of tokens; None for the size's own: 32 of the minis, 50,254 of HW-GPT-Bench, 50,264 of
            lts-gpt2, 50,304 of the Gemstones, and 267,736 of lts-xl, whose models of lm1b have 793,470 or 267,735.
        length: Number of tokens of an example, which is the longest sequence where positions are learned; None for the
            size's own: 64 of the minis, 1,024 of HW-GPT-Bench, 2,048 of the Gemstones, 192 of LTS, whose models of lm1b
            have 32.
        head_dim: Numbers of a head where heads have a width of their own; None for the size's own: 64, 128 of the
            Gemstones, 16 of mini, 8 of gemstones-mini.
        rotary: Share of a head's numbers that turn with the position; HW-GPT-Bench trained with 0.5, timed with 0.25.
        bands: Text whose word frequencies decide the bands of the adaptive embedding: 'wikitext103' or 'lm1b'; of the
            latter no band shares its way out.

    Returns:
        A network from tokens (B, T) to scores of the next token (B, T, vocabulary).

    Raises:
        SpaceError: the Gemstones' widths do not hold whole heads, or their heads do not share keys evenly.
    """
    own = SIZES[size]
    vocabulary, length = vocabulary or own.vocabulary, length or own.length
    embed, depth = pick("embed", own.embeds), pick("depth", own.depths)
    if not own.heads:
        width = head_dim or own.head_dim
        if embed % width or (embed // width) % keys_of(embed // width):
            raise SpaceError(
                f"expected heads that fill the width and share keys evenly, got width {embed} and head_dim={width}."
                f"\n  Use head_dim={own.head_dim}."
            )
        layers = [GemmaLayer(embed, width) for _ in range(depth)]
        return Decoder(Words(vocabulary, embed), layers, nn.RMSNorm(embed, 1e-6), Scale())
    if own.head_dim:
        bias = bool(pick("bias", (0, 1)))
        picked = [(pick(f"layer{i}.heads", own.heads), pick(f"layer{i}.ratio", own.hidden)) for i in range(depth)]
        width = head_dim or own.head_dim
        layers = [SideBySide(embed, heads, ratio * embed, width, bias, rotary) for heads, ratio in picked]
        return Decoder(Words(vocabulary, embed), layers, nn.LayerNorm(embed), nn.Identity())
    wide, divide = pick("tokens.width", own.embeds), pick("tokens.divide", (1, 2, 4))
    picked = [(pick(f"layer{i}.heads", own.heads), pick(f"layer{i}.hidden", own.hidden)) for i in range(depth)]
    ends = [*(end for end in ENDS[bands] if end < vocabulary), vocabulary]
    words = Bands(ends, embed, wide, divide, shares=bands == "wikitext103")
    relative = own.positions == "relative"
    layers = [Layer(embed, heads, hidden, relative) for heads, hidden in picked]
    if relative:
        return Decoder(words, layers, nn.Identity(), nn.Identity())
    return Decoder(words, layers, nn.LayerNorm(embed), Positions(length, embed))


@gpt.json_parser
def parse(
    text: str, size: str = "mini", vocabulary: int | None = None, head_dim: int | None = None, **presets: object
) -> dict[str, Option] | None:
    """Read `{"embed": 192, "heads": […], "mlp_ratio": […], "bias": 0}` or `{"d_model": 512, "n_head": […], …}`.

    HW-GPT-Bench's and Archai's words, or `{"width": 1024, "depth": 28}` of the Gemstones; what else such a line says of
    the network must be true of the presets.
    """
    data = json.loads(text)
    if isinstance(data, dict) and {"width", "depth"} <= data.keys():
        if SIZES[size].heads:
            raise SpaceError(
                f"expected a decoder of size={size!r}, got a Gemstone.\n  Load the space with size='gemstones'."
            )
        return _read_gemstone(data, head_dim or SIZES[size].head_dim)
    if not isinstance(data, dict) or not {"mlp_ratio", "d_inner"} & data.keys():
        return None
    have = {"family": FAMILIES.get(size), "scale": FAMILIES.get(size), "n_token": vocabulary or SIZES[size].vocabulary}
    for key, value in have.items():
        if data.get(key, value) != value:
            raise SpaceError(
                f"expected a decoder of {key} {value!r}, which size={size!r} means, got {data[key]!r}."
                "\n  Load the space with the presets of this decoder, such as size='lts-xl', vocabulary=793470."
            )
    wide = "d_inner" in data
    names = ("n_head", "d_inner", "hidden") if wide else ("heads", "mlp_ratio", "ratio")
    heads, hidden = data[names[0]], data[names[1]]
    if wide:
        found = {"embed": data["d_model"], "tokens.width": data["d_embed"], "tokens.divide": data["div_val"]}
    else:
        found = {"embed": data["embed"], "bias": data["bias"]}
    if len(heads) != len(hidden):
        raise SpaceError(
            f"expected as many {names[0]} as {names[1]}, got {len(heads)} and {len(hidden)}.\n  Mend the line."
        )
    for i, (number, size_of_mlp) in enumerate(zip(heads, hidden, strict=True)):
        found |= {f"layer{i}.heads": number, f"layer{i}.{names[2]}": size_of_mlp}
    return found | {"depth": len(heads)}


def _read_gemstone(data: dict[str, int], head_dim: int) -> dict[str, Option]:
    """Read width and depth, whose heads follow from them."""
    heads = data["width"] // head_dim
    for key, value in {"heads": heads, "kv_heads": keys_of(heads)}.items():
        if data.get(key, value) != value:
            raise SpaceError(
                f"expected {value} {key} of width {data['width']} with head_dim={head_dim}, got {data[key]}."
                "\n  Mend the line, or load the space with the head_dim of this decoder."
            )
    return {"embed": data["width"], "depth": data["depth"]}


@gpt.formatter
def format_json(choices: Mapping[str, Option]) -> str:
    """Write the table's encoding."""
    if choices.keys() == {"embed", "depth"}:
        return json.dumps({"width": choices["embed"], "depth": choices["depth"]})
    layers = range(int(choices["depth"]))
    heads = [choices[f"layer{i}.heads"] for i in layers]
    if "bias" in choices:
        ratios = [choices[f"layer{i}.ratio"] for i in layers]
        return json.dumps({"embed": choices["embed"], "heads": heads, "mlp_ratio": ratios, "bias": choices["bias"]})
    data = {"d_model": choices["embed"], "d_embed": choices["tokens.width"], "div_val": choices["tokens.divide"]}
    return json.dumps(data | {"n_head": heads, "d_inner": [choices[f"layer{i}.hidden"] for i in layers]})


@gpt.row_reader("scale", "embed", "layers", "heads", "mlp_ratio", "bias")
def read_hwgpt(row: Mapping[str, str]) -> str:
    """Read HW-GPT-Bench's columns: heads joined by '-', one digit of the MLP ratio for each layer."""
    heads = [int(h) for h in row["heads"].split("-")]
    data = {"scale": row["scale"], "embed": int(row["embed"]), "heads": heads}
    return json.dumps(data | {"mlp_ratio": [int(r) for r in row["mlp_ratio"]], "bias": int(row["bias"])})


@gpt.row_reader("family", "d_model", "d_embed", "div_val", "n_head", "d_inner", "n_token")
def read_archai(row: Mapping[str, str]) -> str:
    """Read the columns of Archai's Litetransformersearch: heads and widths joined by '-'."""
    numbers = {key: int(row[key]) for key in ("d_model", "d_embed", "div_val", "n_token")}
    lists = {key: [int(v) for v in row[key].split("-")] for key in ("n_head", "d_inner")}
    return json.dumps({"family": row["family"]} | numbers | lists)


@gpt.row_reader("width", "depth", "heads", "kv_heads")
def read_gemstones(row: Mapping[str, str]) -> str:
    """Read the columns of the Gemstones."""
    return json.dumps({key: int(row[key]) for key in ("width", "depth", "heads", "kv_heads")})
