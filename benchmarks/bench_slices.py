"""Subnets against muted networks: the network of the same options at its widest, of which nothing reads the cut channels.

For every shipped space: random members, each against the member that has the same strings and depths and every width at
its largest, with the same weights, those that the smaller one does not take set to 0. Norms over features (LayerNorm,
RMSNorm) would see muted channels in their statistics, and attention divides by the root of a head's width: for this
comparison the former only scale and shift, and the latter divides by 10. For `packed`:
random networks with packed, joined, chunked, interleaved and grouped layers (tests/supernet/packed.py), muted by what
each part says of itself.

    python benchmarks/bench_slices.py [--seeds 200] [--summary]
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from bench_extraction import SMALL
from torch import Tensor, nn

import nasplat
from nasplat.errors import NasplatError, SupernetError
from nasplat.searchspace import pick as picks
from nasplat.supernet.extremes import DEPTH, SCALE, kinds
from nasplat.supernet.slicing import TOKENS, give, take

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "supernet"))
from packed import largest_difference, packed_space

RESULTS = Path(__file__).parent / "results" / "slices.csv"
FIELDS = ("space", "seed", "members", "compared", "cut", "own", "difference", "refused", "seconds")
MEMBERS = 12


def widest_like(member: nasplat.Architecture) -> nasplat.Architecture | None:
    """Member with the same strings and depths, and every width and kernel at its largest."""
    found = kinds(member.space)
    kept = {
        k: v for k, v in member.choices.items() if isinstance(v, str) or found.get(k) in {DEPTH, SCALE, None, "other"}
    }
    return member.space.walk(picks.preferring(kept, picks.extreme(True)))


def muted(supernet: nasplat.Supernet, member: nasplat.Architecture, wide: nasplat.Architecture) -> nn.Module | None:
    """The wide network with the store's weights, those outside the member's slices set to 0."""
    store, small, large = supernet.store, supernet.subnets.build(member), supernet.subnets.build(wide)
    if {k for k, _ in small.parameters} != {k for k, _ in large.parameters}:
        return None  # a width that takes layers away
    module = supernet.subnets.extract(wide)
    by_key = dict(zip((k for k, _ in large.parameters), module.parameters(), strict=True))
    with torch.no_grad():
        for key, parameter in small.parameters:
            rule, shape = small.rules.get(key) or store.rules[key], tuple(parameter.shape)
            if rule is None or TOKENS in rule.axes or shape == tuple(by_key[key].shape):
                continue
            reads = torch.zeros_like(store.weights[key])
            give(reads, torch.ones(shape), rule, key)
            other, whole = large.rules.get(key) or store.rules[key], tuple(by_key[key].shape)
            by_key[key].mul_(reads if whole == tuple(reads.shape) or other is None else take(reads, whole, other, key))
    return module.eval()


@contextmanager
def without_statistics() -> Iterator[None]:
    """Norms over features only scale and shift, and products of any head width count alike, while the context lasts."""

    def layer_norm(x: Tensor, shape: Any, weight: Any = None, bias: Any = None, eps: float = 0.0) -> Tensor:
        x = x if weight is None else x * weight
        return x if bias is None else x + bias

    attention = torch.nn.functional.scaled_dot_product_attention
    with (
        patch("torch.nn.functional.layer_norm", layer_norm),
        patch("torch.nn.functional.rms_norm", layer_norm),
        patch("torch.nn.functional.scaled_dot_product_attention", partial(attention, scale=0.1)),
    ):
        yield


def shipped(name: str) -> dict[str, Any]:
    """Compare random members of a shipped space."""
    started = time.perf_counter()
    space = nasplat.load_space(name, **SMALL[name])
    shape = tuple(space.sample(seed=0).example_input)  # type: ignore[arg-type]
    x = torch.randn(2, *shape[1:], generator=torch.Generator().manual_seed(0))
    y = torch.zeros(2, dtype=torch.long)
    row = {"space": name, "seed": 0, "members": MEMBERS, "compared": 0, "cut": 0, "own": 0, "refused": ""}
    worst = 0.0
    try:
        supernet = nasplat.Supernet(space, nasplat.Task.from_arrays((x, y), (x, y)), seed=0)
        for i in range(MEMBERS):
            member = space.sample(seed=i)
            wide = widest_like(member)
            big = None if wide is None else muted(supernet, member, wide)
            if wide is None or big is None:
                continue
            bound = supernet.subnets.build(member)
            row["own"] += len(bound.rules)
            row["cut"] += sum(tuple(p.shape) != tuple(supernet.store.weights[k].shape) for k, p in bound.parameters)
            with torch.no_grad(), without_statistics():
                want, got = big.double()(x.double()), supernet.subnets.extract(member).double().eval()(x.double())
            assert want.abs().max() > 0, f"{member} answers 0"
            row["compared"] += 1
            worst = max(worst, float((want - got).abs().max() / want.abs().max().clamp_min(1e-12)))
    except SupernetError as err:
        row["refused"] = str(err).partition("\n")[0]
    return row | {"difference": f"{worst:.2g}", "seconds": f"{time.perf_counter() - started:.1f}"}


def packed(seed: int) -> dict[str, Any]:
    """Compare random members of a random space of packed layers."""
    started, refused, worst = time.perf_counter(), "", 0.0
    try:
        worst = largest_difference(seed)
    except NasplatError as err:
        refused = str(err).partition("\n")[0]
    kinds_ = "+".join(k.__name__ for k in packed_space(seed)[1])
    row = {
        "space": f"packed {kinds_}",
        "seed": seed,
        "members": 4,
        "compared": 0 if refused else 4,
        "cut": "",
        "own": "",
    }
    return row | {"difference": f"{worst:.2g}", "refused": refused, "seconds": f"{time.perf_counter() - started:.1f}"}


def rows() -> list[dict[str, str]]:
    """Rows that were written so far."""
    return list(csv.DictReader(RESULTS.open(encoding="utf-8"))) if RESULTS.exists() else []


def write(row: dict[str, Any]) -> None:
    """Append a row."""
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def summary() -> None:
    """Print the table of the rows."""
    print("| space | members compared | weights cut | with positions of their own | largest difference | refused |")
    print("|---|---|---|---|---|---|")
    found = rows()
    for r in found:
        if not r["space"].startswith("packed"):
            refused = r["refused"] or "no"
            print(f"| {r['space']} | {r['compared']} | {r['cut']} | {r['own']} | {r['difference']} | {refused} |")
    random = [r for r in found if r["space"].startswith("packed")]
    if random:
        worst, said = max(float(r["difference"]) for r in random), sum(bool(r["refused"]) for r in random)
        print(f"| {len(random)} random packed networks | {4 * (len(random) - said)} | – | – | {worst:.2g} | {said} |")


def main() -> None:
    """Compare what has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--spaces", nargs="*", default=sorted(SMALL))
    parser.add_argument("--summary", action="store_true")
    args = parser.parse_args()
    done = {(r["space"].partition(" ")[0], r["seed"]) for r in rows()}
    if not args.summary:
        for name in args.spaces:
            if (name, "0") not in done:
                write(shipped(name))
        for seed in range(args.seeds):
            if ("packed", str(seed)) not in done:
                write(packed(seed))
    summary()


if __name__ == "__main__":
    main()
