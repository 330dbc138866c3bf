"""Networks as users write them, with packed, joined, split, interleaved and grouped layers, and what of them is cut.

Every part says by itself, in plain tensor arithmetic, which of its channels a smaller one has; the largest network whose
other channels are muted (nothing reads them) must answer what the smaller network answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nasplat

Sizes = dict[str, Any]


def head(size: int, whole: int) -> Tensor:
    """True for the first positions of an axis."""
    return torch.arange(whole) < size


class Part(nn.Module):
    """A part from (B, C, 4, 4) to (B, C', 4, 4)."""

    options: ClassVar[dict[str, tuple[Any, ...]]] = {}
    outputs: int

    def read(self, keep: Tensor) -> None:
        """Mute inputs: zero the weights of every layer in `readers` that reads a channel which is cut."""
        for layer in self.readers():
            layer.weight.data[:, ~keep] = 0

    def readers(self) -> list[Any]:
        """Layers whose second axis of weights are the inputs."""
        return []

    def mute(self, small: Sizes) -> None:
        """Mute what a smaller part cuts inside."""

    def kept(self, small: Sizes, keep: Tensor) -> Tensor:
        """Which of the outputs a smaller part has; `keep` tells which of the inputs there are."""
        return torch.ones(self.outputs, dtype=torch.bool)


class FusedAttention(Part):
    options: ClassVar[dict[str, tuple[Any, ...]]] = {
        "heads": (1, 2, 4),
        "head": (4, 8),
        "order": ("khd", "hkd", "khd by einsum"),
    }

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s, self.outputs = s, 12
        n = s["heads"] * s["head"]
        self.qkv, self.proj = nn.Linear(c, 3 * n, bias=True), nn.Linear(n, 12)

    def forward(self, x: Tensor) -> Tensor:
        h, d, order = self.s["heads"], self.s["head"], self.s["order"]
        y = self.qkv(x.flatten(2).transpose(1, 2))
        if order == "hkd":
            q, k, v = y.unflatten(-1, (h, 3, d)).transpose(1, 2).unbind(3)
        elif order == "khd":
            q, k, v = y.view(*y.shape[:2], 3, h, d).permute(2, 0, 3, 1, 4)
        else:
            q, k, v = (t.reshape(*t.shape[:2], h, d).transpose(1, 2) for t in y.chunk(3, -1))
        if "einsum" in order:
            a = torch.einsum("bhqd,bhkd->bhqk", q, k * 4**-0.5).softmax(-1)
            z = torch.einsum("bhqk,bhkd->bhqd", a, v)
        else:
            z = F.scaled_dot_product_attention(q, k, v, scale=0.5)
        return self.proj(z.transpose(1, 2).flatten(2)).transpose(1, 2).unflatten(2, (4, 4))

    def readers(self) -> list[Any]:
        return [self.qkv]

    def mute(self, small: Sizes) -> None:
        h, d = self.s["heads"], self.s["head"]
        keep = head(small["heads"], h)[:, None] & head(small["head"], d)
        self.proj.weight.data[:, ~keep.flatten()] = 0
        order = self.s["order"]
        shape = (h, 3, d) if order == "hkd" else (3, h, d)
        for rows in (self.qkv.weight.data, self.qkv.bias.data):  # queries that are cut add nothing to a product
            view = rows.view(*shape, *rows.shape[1:])
            queries = view[:, 0] if order == "hkd" else view[0]
            queries[~keep] = 0


class SharedKeys(Part):
    """Grouped queries: several heads of queries share one of keys and values."""

    options: ClassVar[dict[str, tuple[Any, ...]]] = {"groups": (1, 2, 3), "each": (1, 2), "how": ("repeat", "expand")}

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s, self.outputs, g, r = s, 9, s["groups"], s["each"]
        self.q, self.kv, self.out = nn.Linear(c, g * r * 4), nn.Linear(c, 2 * g * 4), nn.Linear(g * r * 4, 9)

    def forward(self, x: Tensor) -> Tensor:
        g, r, t = self.s["groups"], self.s["each"], x.flatten(2).transpose(1, 2)
        b, n, _ = t.shape
        q = self.q(t).view(b, n, g * r, 4).transpose(1, 2)
        k, v = self.kv(t).view(b, n, 2, g, 4).permute(2, 0, 3, 1, 4)
        if self.s["how"] == "repeat":
            k, v = k.repeat_interleave(r, 1), v.repeat_interleave(r, 1)
        else:
            k, v = (y[:, :, None].expand(b, g, r, n, 4).reshape(b, g * r, n, 4) for y in (k, v))
        z = ((q @ k.mT) / 2).softmax(-1) @ v
        return self.out(z.transpose(1, 2).reshape(b, n, -1)).mT.unflatten(2, (4, 4))

    def readers(self) -> list[Any]:
        return [self.q, self.kv]

    def mute(self, small: Sizes) -> None:
        keep = head(small["groups"], self.s["groups"])[:, None] & head(small["each"], self.s["each"])
        self.out.weight.data[:, ~keep.flatten().repeat_interleave(4)] = 0


class Gated(Part):
    options: ClassVar[dict[str, tuple[Any, ...]]] = {
        "hidden": (4, 8, 12),
        "how": ("chunk", "stack", "interleaved", "split", "glu"),
    }

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s, self.outputs = s, 10
        self.w12, self.w3 = nn.Conv2d(c, 2 * s["hidden"], 1), nn.Conv2d(s["hidden"], 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, n, how = self.w12(x), self.s["hidden"], self.s["how"]
        if how == "glu":
            return self.w3(F.glu(y, 1))
        if how == "chunk":
            a, b = y.chunk(2, 1)
        elif how == "split":
            a, b = y[:, :n], y[:, n:]
        elif how == "stack":
            a, b = y.unflatten(1, (2, n)).unbind(1)
        else:
            a, b = y[:, ::2], y[:, 1::2]
        return self.w3(F.silu(a) * b)

    def readers(self) -> list[Any]:
        return [self.w12]

    def mute(self, small: Sizes) -> None:
        self.w3.weight.data[:, small["hidden"] :] = 0


class Branches(Part):
    """Branches side by side, joined; the last one may be missing."""

    options: ClassVar[dict[str, tuple[Any, ...]]] = {"a": (2, 4), "b": (3, 5), "c": (0, 2), "norm": (True, False)}

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s = s
        self.a, self.b = nn.Conv2d(c, s["a"], 3, padding=1), nn.Sequential(nn.Conv2d(c, s["b"], 1), nn.ReLU())
        if s["c"]:
            self.c = nn.Conv2d(c, s["c"], 1)
        self.outputs = s["a"] + s["b"] + s["c"]
        self.norm = nn.BatchNorm2d(self.outputs) if s["norm"] else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        found = [self.b(x), *([self.c(x)] if self.s["c"] else []), self.a(x)]
        return F.relu(self.norm(torch.cat(found, 1)))

    def readers(self) -> list[Any]:
        return [self.a, self.b[0], *([self.c] if self.s["c"] else [])]

    def kept(self, small: Sizes, keep: Tensor) -> Tensor:
        return torch.cat([head(small[k], self.s[k]) for k in ("b", "c", "a")])


class Dense(Part):
    """Every layer reads all that was before; as many layers as a choice says, the newest first or last."""

    options: ClassVar[dict[str, tuple[Any, ...]]] = {"growth": (2, 3), "layers": (1, 2, 3), "newest": ("first", "last")}

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s, self.inputs, g = s, c, s["growth"]
        self.layers = nn.ModuleList(nn.Conv2d(c + i * g, g, 3, padding=1) for i in range(s["layers"]))
        self.outputs = c + s["layers"] * g

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            parts = [x, F.relu(layer(x))]
            x = torch.cat(parts if self.s["newest"] == "last" else parts[::-1], 1)
        return x

    def _seen(self, small: Sizes, keep: Tensor, layers: int) -> Tensor:
        for i in range(layers):
            new = head(small["growth"], self.s["growth"]) & (i < small["layers"])
            keep = torch.cat([keep, new] if self.s["newest"] == "last" else [new, keep])
        return keep

    def read(self, keep: Tensor) -> None:
        self.keep = keep

    def mute(self, small: Sizes) -> None:
        for i, layer in enumerate(self.layers):
            layer.weight.data[:, ~self._seen(small, self.keep, i)] = 0  # type: ignore[operator,index]

    def kept(self, small: Sizes, keep: Tensor) -> Tensor:
        return self._seen(small, keep, self.s["layers"])


class Grouped(Part):
    """A grouped convolution: as many groups, or groups as wide, as always."""

    options: ClassVar[dict[str, tuple[Any, ...]]] = {"of": ("number", "width"), "n": (1, 2, 4)}

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s = s
        groups, width = (3, 2 * s["n"]) if s["of"] == "number" else (s["n"], 4)
        self.first, self.groups, self.width = nn.Conv2d(c, groups * width, 1), groups, width
        self.norm, self.mid = (
            nn.BatchNorm2d(groups * width),
            nn.Conv2d(groups * width, groups * width, 3, padding=1, groups=groups),
        )
        self.outputs = groups * width

    def forward(self, x: Tensor) -> Tensor:
        return self.mid(F.relu(self.norm(self.first(x))))

    def readers(self) -> list[Any]:
        return [self.first]

    def mute(self, small: Sizes) -> None:
        if self.s["of"] == "number":
            self.mid.weight.data[:, 2 * small["n"] :] = 0

    def kept(self, small: Sizes, keep: Tensor) -> Tensor:
        if self.s["of"] == "number":
            return head(2 * small["n"], self.width).repeat(self.groups)
        return head(small["n"], self.groups).repeat_interleave(self.width)


class Halves(Part):
    """One half passes, the other is convolved; then channels are shuffled."""

    options: ClassVar[dict[str, tuple[Any, ...]]] = {"width": (4, 8), "shuffle": ("view", "index", "module", "none")}

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s, n = s, s["width"]
        self.first, self.branch = nn.Conv2d(c, n, 1), nn.Conv2d(n // 2, n // 2, 3, padding=1)
        self.outputs = n

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x).chunk(2, 1)
        y, n, how = torch.cat([a, F.relu(self.branch(b))], 1), self.s["width"], self.s["shuffle"]
        if how == "view":
            return y.view(-1, 2, n // 2, 4, 4).transpose(1, 2).reshape(-1, n, 4, 4)
        if how == "index":
            return y[:, torch.arange(n).view(2, n // 2).t().flatten()]
        return F.channel_shuffle(y, 2) if how == "module" else y

    def readers(self) -> list[Any]:
        return [self.first]

    def mute(self, small: Sizes) -> None:
        self.branch.weight.data[:, small["width"] // 2 :] = 0

    def kept(self, small: Sizes, keep: Tensor) -> Tensor:
        one = head(small["width"] // 2, self.s["width"] // 2)
        return one.repeat(2) if self.s["shuffle"] == "none" else one.repeat_interleave(2)


class Shuffled(Part):
    """Channels become pixels, and pixels channels."""

    options: ClassVar[dict[str, tuple[Any, ...]]] = {"width": (2, 3, 4), "back": (True, False)}

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s = s
        self.first, self.up, self.second = (
            nn.Conv2d(c, 4 * s["width"], 1),
            nn.PixelShuffle(2),
            nn.Conv2d(s["width"], s["width"], 3, padding=1),
        )
        self.outputs = s["width"] * (4 if s["back"] else 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.up(self.first(x)))
        return F.pixel_unshuffle(y, 2) if self.s["back"] else F.adaptive_avg_pool2d(y, 4)

    def readers(self) -> list[Any]:
        return [self.first]

    def mute(self, small: Sizes) -> None:
        self.second.weight.data[:, small["width"] :] = 0

    def kept(self, small: Sizes, keep: Tensor) -> Tensor:
        return head(small["width"], self.s["width"]).repeat_interleave(4 if self.s["back"] else 1)


class Squeezed(Part):
    """An inverted residual block with squeeze and excitation, and a depthwise convolution that doubles the channels."""

    options: ClassVar[dict[str, tuple[Any, ...]]] = {"hidden": (4, 6, 8), "squeeze": (2, 3), "twice": (1, 2)}

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s, self.outputs, n, m = s, 11, s["hidden"], s["hidden"] * s["twice"]
        self.expand, self.norm = nn.Conv2d(c, n, 1, bias=False), nn.BatchNorm2d(n)
        self.depthwise = nn.Conv2d(n, m, 3, padding=1, groups=n)
        self.down, self.up, self.project = nn.Linear(m, s["squeeze"]), nn.Linear(s["squeeze"], m), nn.Conv2d(m, 11, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(F.relu6(self.norm(self.expand(x))))
        gate = torch.sigmoid(self.up(F.relu(self.down(y.mean((2, 3))))))
        return self.project(y * gate[..., None, None])

    def readers(self) -> list[Any]:
        return [self.expand]

    def mute(self, small: Sizes) -> None:
        twice = head(small["twice"], self.s["twice"])
        keep = (head(small["hidden"], self.s["hidden"])[:, None] & twice).flatten()
        self.project.weight.data[:, ~keep] = 0
        self.down.weight.data[:, ~keep] = 0
        self.up.weight.data[:, small["squeeze"] :] = 0


class Flattened(Part):
    """Channels times positions are read by a linear layer; the answer is added to every place."""

    options: ClassVar[dict[str, tuple[Any, ...]]] = {"width": (2, 3, 5), "other": (1, 2), "out": (6, 9)}

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s, self.outputs = s, s["out"]
        self.a, self.b = nn.Conv2d(c, s["width"], 1), nn.Conv2d(c, s["other"], 1)
        self.read_all = nn.Linear(16 * (s["width"] + s["other"]), s["out"])

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.a(x), self.b(x)], 1).flatten(1)
        return self.read_all(y)[..., None, None].expand(-1, -1, 4, 4)

    def readers(self) -> list[Any]:
        return [self.a, self.b]

    def mute(self, small: Sizes) -> None:
        keep = torch.cat([head(small[k], self.s[k]) for k in ("width", "other")])
        self.read_all.weight.data[:, ~keep.repeat_interleave(16)] = 0

    def kept(self, small: Sizes, keep: Tensor) -> Tensor:
        return head(small["out"], self.s["out"])


class Recurrent(Part):
    options: ClassVar[dict[str, tuple[Any, ...]]] = {"hidden": (2, 3, 4), "cell": ("LSTM", "GRU"), "layers": (1, 2)}

    def __init__(self, c: int, s: Sizes) -> None:
        super().__init__()
        self.s, self.outputs = s, 2 * s["hidden"]
        self.cell = getattr(nn, s["cell"])(c, s["hidden"], s["layers"], batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(x.flatten(2).mT)[0].mT.unflatten(2, (4, 4))

    def read(self, keep: Tensor) -> None:
        for way in ("", "_reverse"):
            getattr(self.cell, f"weight_ih_l0{way}").data[:, ~keep] = 0

    def mute(self, small: Sizes) -> None:
        n, h = self.s["hidden"], small["hidden"]
        for name, weight in self.cell.named_parameters():
            if "weight_hh" in name:
                weight.data[:, h:] = 0
            if "weight_ih_l1" in name:
                weight.data[:, ~head(h, n).repeat(2)] = 0

    def kept(self, small: Sizes, keep: Tensor) -> Tensor:
        return head(small["hidden"], self.s["hidden"]).repeat(2)


PARTS: tuple[type[Part], ...] = (
    *(FusedAttention, SharedKeys, Gated, Branches, Dense, Grouped, Halves, Shuffled, Squeezed, Flattened, Recurrent),
)


class Packed(nn.Module):
    """Some parts in a row, and a linear head."""

    def __init__(self, kinds: Sequence[type[Part]], sizes: Sequence[Sizes]) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        last = 3
        for kind, own in zip(kinds, sizes, strict=True):
            self.parts.append(kind(last, own))  # type: ignore[call-arg,arg-type]
            last = int(self.parts[-1].outputs)  # type: ignore[arg-type]
        self.head = nn.Linear(last, 5)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return self.head(x.mean((2, 3)))

    @torch.no_grad()
    def mute(self, sizes: Sequence[Sizes]) -> None:
        """Mute what a smaller network cuts."""
        keep = torch.ones(3, dtype=torch.bool)
        for part, small in zip(self.parts, sizes, strict=True):
            assert isinstance(part, Part)
            part.read(keep)
            part.mute(small)
            keep = part.kept(small, keep)
        self.head.weight.data[:, ~keep] = 0


def packed_space(seed: int) -> tuple[nasplat.Space, list[type[Part]]]:
    """Make a space of one to three random parts; options among strings are fixed by the seed."""
    rng = random.Random(seed)
    kinds = [PARTS[seed % len(PARTS)], *rng.choices(PARTS, k=rng.randint(0, 2))]
    rng.shuffle(kinds)
    fixed = [{k: rng.choice(v) for k, v in kind.options.items() if not _is_cut(k, v)} for kind in kinds]

    @nasplat.space(example_input=(1, 3, 4, 4))
    def packed(pick: nasplat.Pick) -> nn.Module:
        sizes = []
        for i, kind in enumerate(kinds):
            own = {k: pick(f"part{i}.{k}", v) for k, v in kind.options.items() if _is_cut(k, v)}
            sizes.append(fixed[i] | own)
        return Packed(kinds, sizes)

    return packed, kinds


def _is_cut(name: str, options: tuple[Any, ...]) -> bool:
    return type(options[0]) is int and (name != "layers" or options[-1] == 3)


def sizes_of(architecture: nasplat.Architecture) -> list[Sizes]:
    """Sizes of every part of a member of such a space."""
    return [part.s for part in architecture.build().parts]  # type: ignore[union-attr,misc]


def largest_difference(seed: int, members: int = 4) -> float:
    """Compare subnets of a random space with the muted largest network, relative to the answers.

    Args:
        seed: Number that decides the space, the weights and the members.
        members: Number of random members that are compared.

    Returns:
        Largest absolute difference over the largest answer; 0 for bit-equal ones.

    Raises:
        SupernetError: the space is refused.
    """
    space, _ = packed_space(seed)
    x = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    task = nasplat.Task.from_arrays((x, torch.zeros(3, dtype=torch.long)), (x, torch.zeros(3, dtype=torch.long)))
    supernet, worst = nasplat.Supernet(space, task, seed=0), 0.0
    for i in range(members):
        member = space.sample(seed=seed * 100 + i)
        with torch.random.fork_rng():
            torch.manual_seed(seed + i)
            big = space.extreme(True).build().eval()
            for p in big.parameters():
                p.data += 0.1 * torch.randn_like(p)
        big.mute(sizes_of(member))  # type: ignore[operator]
        supernet.adopt(big)
        with torch.no_grad():
            want, got = big(x), supernet.subnets.extract(member).eval()(x)
        worst = max(worst, float((want - got).abs().max() / want.abs().max()))
    return worst
