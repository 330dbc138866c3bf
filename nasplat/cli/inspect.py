"""The verb `inspect`: what a network computes, and how two networks differ."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nasplat.cli import options, show, words
from nasplat.tables.listing import Listing
from nasplat.tables.rows import write_atomically

if TYPE_CHECKING:
    from nasplat.graph import Graph


@click.command("inspect")
@click.argument("network")
@options.input_shape
@click.option(
    "--depth",
    type=options.POSITIVE,
    default=1,
    show_default=True,
    help="The table tells modules apart by this many names of their path.",
)
@click.option("--ops", "by_op", is_flag=True, help="The table has one row per operation instead of one per module.")
@click.option("--nodes", is_flag=True, help="The table lists every operation.")
@click.option(
    "--at",
    "conditions",
    multiple=True,
    metavar="TOKENS",
    help="What a decoder costs is also told at this many tokens, or at sequences x tokens, such as 8x4096; the option "
    "may be repeated.",
)
@click.option(
    "--diff",
    "other",
    default=None,
    metavar="NETWORK",
    help="The table shows what changes from the first network to this second one.",
)
@click.option(
    "--drawing", default=None, type=options.FILE, help="A drawing, folded by module, is written to this SVG file."
)
@options.trust
@options.as_json
def inspect_command(network: str, as_json: bool, **o: Any) -> None:
    """Show what a network computes: MACs, parameters, activations by module, what is not known, the canonical key."""
    import nasplat
    from nasplat.graph.compare import by_module

    batch, drawing = words.example(o["shape"]), o["drawing"]
    graph = nasplat.capture(network, batch)
    if o["other"] is not None:
        _show_difference((network, graph), (o["other"], nasplat.capture(o["other"], batch)), drawing, as_json)
        return
    if drawing is not None:
        write_atomically(drawing, nasplat.draw(graph))
    modules = by_module(graph, o["depth"])
    data: dict[str, Any] = _about(network, graph) | {"modules": [dataclasses.asdict(m) for m in modules]}
    data["decoder"] = _decoder(graph, o["conditions"])
    table = _nodes if o["nodes"] else _operations if o["by_op"] else lambda g: _modules(g, modules)
    show.answer(data, as_json, lambda: table(graph))
    if not as_json:
        _show_totals(graph, data)


def _about(network: str, graph: Graph) -> dict[str, Any]:
    """Everything of a graph that is one number or one list."""
    from nasplat.graph import bounds

    count: Counter[str] = Counter(n.op for n in graph.nodes)
    unknown = sum(c for op, c in count.items() if op.startswith("other:"))
    return {
        "network": network,
        "macs": graph.macs,
        "bound": graph.cost.bound,
        "is_lower_bound": graph.cost.is_lower_bound,
        "is_upper_bound": graph.cost.is_upper_bound,
        "inexact_because": bounds.reasons(graph.causes, graph.unknown_ops),
        "other_flops": graph.cost.other_flops,
        "params": graph.params,
        "params_bound": graph.cost.params_bound,
        "weight_bytes": dict(graph.cost.weight_bytes),
        "activation_bytes": graph.activation_bytes,
        "bytes_bound": graph.cost.bytes_bound,
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "known_share": 1 - unknown / max(1, graph.num_nodes),
        "unknown_ops": graph.unknown_ops,
        "rung": graph.rung,
        "notes": graph.notes,
        "key": graph.key,
        "ops": dict(count.most_common()),
    }


def _decoder(graph: Graph, conditions: Sequence[str]) -> dict[str, Any] | None:
    """What the tokens of a decoder cost, at its own length and under conditions; None for other networks."""
    from nasplat.errors import GraphError
    from nasplat.graph.quantities import PRECISIONS, WITH_TOKENS, Quantity, Sizes

    sizes = Sizes.of(graph)
    if isinstance(sizes.decoding, str):
        if conditions:
            raise GraphError(sizes.decoding)
        return None
    places = (f"{sizes.decoding.batch}x{sizes.decoding.length}", *conditions)
    costs = [{"at": p} | {q: Quantity.of(f"{q}@{p}").count(sizes) for q in WITH_TOKENS} for p in places]
    weights = {p: Quantity.of(f"weight_bytes@{p}").count(sizes) for p in PRECISIONS}
    return {
        "attentions": sizes.decoding.layers,
        "kv_bytes_per_token": sizes.decoding.kv_bytes(),
        "kv_bytes_per_token_bf16": sizes.decoding.kv_bytes(precision="bfloat16"),
        "costs": costs,
        "weight_bytes": weights,
    }


def _show_decoder(decoder: Mapping[str, Any], sign: str) -> None:
    """Print what the tokens of a decoder cost."""
    from nasplat.graph.bounds import signed

    show.say(
        f"decoder of {decoder['attentions']} attentions, {decoder['kv_bytes_per_token']:,} bytes of keys and values a "
        f"token ({decoder['kv_bytes_per_token_bf16']:,} in bf16)"
    )
    for row in decoder["costs"]:
        prefill, token = (signed(f"{row[name]:,}", sign) for name in ("prefill_macs", "decode_macs"))
        show.say(
            f"at {row['at']} tokens: prompt {prefill} MACs, one token more {token}, cache {row['kv_bytes']:,} bytes"
        )
    listed = ", ".join(f"{size / 2**20:.2f} MiB {p}" for p, size in decoder["weight_bytes"].items())
    show.say(f"weights without scales: {listed}")


def _nodes(graph: Graph) -> Listing:
    """Describe every operation."""
    from nasplat.graph.bounds import part_bound, signed
    from nasplat.graph.ops import is_known

    rows = [
        [n.path or "(root)", n.op, str(n.shape), signed(str(macs), part_bound(macs, graph.causes, not is_known(n.op)))]
        for n, macs in zip(graph.nodes, graph.node_macs, strict=True)
    ]
    return Listing(["module", "op", "output", "MACs"], rows)


def _operations(graph: Graph) -> Listing:
    """Describe each kind of operation."""
    from nasplat.graph.bounds import part_bound, signed
    from nasplat.graph.ops import is_known
    from nasplat.runs.listings import millions

    macs: Counter[str] = Counter()
    for n, own in zip(graph.nodes, graph.node_macs, strict=True):
        macs[n.op] += own
    rows = [
        [op, str(c), signed(millions(macs[op]), part_bound(macs[op], graph.causes, not is_known(op)))]
        for op, c in Counter(n.op for n in graph.nodes).most_common()
    ]
    return Listing(["op", "count", "MACs"], rows)


def _modules(graph: Graph, modules: list[Any]) -> Listing:
    """Describe each module."""
    from nasplat.graph.bounds import signed
    from nasplat.runs.listings import millions

    rows = [
        [
            *(
                m.path,
                str(m.nodes),
                signed(millions(m.macs), m.bound),
                f"{m.macs / max(1, graph.macs):.1%}",
                millions(m.params),
            ),
            *(f"{m.activation_bytes / 2**20:.2f}", ", ".join(f"{c} {op}" for op, c in m.ops[:4])),
        ]
        for m in modules
    ]
    columns = ["module", "operations", "MACs", "share", "parameters", "activations MiB", "mostly"]
    return Listing(columns, rows)


def _show_totals(graph: Graph, about: Mapping[str, Any]) -> None:
    """Print the sums below the table, and the notes of the capture."""
    from nasplat.graph.bounds import signed

    cost = graph.cost
    weights = ", ".join(f"{b / 2**20:.2f} MiB {d}" for d, b in cost.weight_bytes) or "none"
    peak = signed(f"{cost.activation_bytes / 2**20:.2f} MiB", cost.bytes_bound)
    # no share of known operations beside a bound: it would read as if the totals were exact
    known = about["inexact_because"] or f"{about['known_share']:.1%} of the operations known"
    show.say(
        f"{signed(f'{cost.macs:,}', cost.bound)} MACs (1 MAC = 2 FLOP) and "
        f"{signed(f'{cost.other_flops:,}', cost.bound)} other FLOP, "
        f"{signed(f'{cost.params:,}', cost.params_bound)} parameters ({weights}), peak activations {peak}\n"
        f"{graph.num_nodes} nodes, {graph.num_edges} edges, {known}, captured by {graph.rung!r}\nkey {graph.key}"
    )
    if about["decoder"] is not None:
        _show_decoder(about["decoder"], cost.bound)
    for note in graph.notes:
        show.say(f"note: {note}")


def _show_difference(first: tuple[str, Graph], second: tuple[str, Graph], drawing: Path | None, as_json: bool) -> None:
    """Print what changes between two networks: totals, and a table of the stretches that differ."""
    import nasplat
    from nasplat.graph.bounds import signed
    from nasplat.graph.compare import changes

    before, after = first[1], second[1]
    found = changes(before, after)
    totals = {
        name: (getattr(before, name), getattr(after, name))
        for name in ("macs", "params", "activation_bytes", "num_nodes", "num_edges")
    }
    signs = {
        "macs": (before.cost.bound, after.cost.bound),
        "params": (before.cost.params_bound, after.cost.params_bound),
        "activation_bytes": (before.cost.bytes_bound, after.cost.bytes_bound),
    }
    if drawing is not None:
        write_atomically(drawing, nasplat.draw_diff(before, after))
    data = {
        "first": first[0],
        "second": second[0],
        "same_computation": before.key == after.key,
        "totals": totals,
        "bounds": signs,
        "changes": [dataclasses.asdict(c) for c in found],
    }
    show.answer(data, as_json, lambda: _changes(before, after, found))
    if not as_json:
        if before.key == after.key:
            show.say("the same computation" + (" in another order or under other names" if found else ""))
        for name, (a, b) in totals.items():
            first_sign, second_sign = signs.get(name, ("", ""))
            share = signed(f"{(b - a) / max(1, a):+.1%}", "≈" if first_sign or second_sign else "")
            show.say(f"{name}: {signed(f'{a:,}', first_sign)} → {signed(f'{b:,}', second_sign)} ({share})")


def _changes(before: Graph, after: Graph, found: list[Any]) -> Listing:
    """Describe every stretch that differs."""

    def operations(graph: Any, numbers: tuple[int, ...]) -> str:
        shown = [graph.nodes[i] for i in numbers]
        texts = [
            f"{n.op}{'×'.join(map(str, n.get('kernel', ())))} {'×'.join(map(str, n.shape[1:]))}" for n in shown[:4]
        ]
        return ", ".join(texts) + (f" … {len(shown)} in all" if len(shown) > 4 else "") or "–"

    def place(change: Any) -> str:
        graph, numbers = (after, change.after) if change.after else (before, change.before)
        return graph.nodes[numbers[0]].path or graph.nodes[numbers[0]].op

    rows = [[c.kind, place(c), operations(before, c.before), operations(after, c.after)] for c in found]
    return Listing(["change", "at", "before", "after"], rows)
