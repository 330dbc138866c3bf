"""A graph in few words: one line for a terminal, a small table for a notebook."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from nasplat.graph.bounds import bound, params_bound, part_bound, signed
from nasplat.graph.columns import Columns
from nasplat.graph.ops import is_known

ROWS = 8
"""Operations in the table of a notebook; the rest share one row."""


def scaled(n: int) -> str:
    """Write a count with the unit it is read in.

    Args:
        n: Count of anything, 0 or more.

    Returns:
        The count itself below a thousand, else two decimals and k, M, G or T, such as '12.30 M'.

    Example:
        >>> scaled(999), scaled(12_300_000)
        ('999', '12.30 M')
    """
    for limit, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if n >= limit:
            return f"{n / limit:.2f} {unit}"
    return str(n)


def line(columns: Columns, macs: int, key: str) -> str:
    """Say a graph's size in one line.

    Args:
        columns: Graph to describe.
        macs: Multiply-accumulates of one forward pass.
        key: Canonical hash; its first twelve digits are shown.

    Returns:
        Nodes, edges, MACs and parameters; a sign stands before those that are no exact counts.
    """
    work = signed(scaled(macs), bound(columns.causes, bool(columns.unknown_ops)))
    params = signed(scaled(columns.params), params_bound(columns.causes))
    return (
        f"Graph({columns.num_nodes} nodes, {columns.num_edges} edges, {work} MACs, {params} parameters, key {key[:12]})"
    )


def table(columns: Columns, macs: Sequence[int], key: str) -> str:
    """Show a graph's totals and its costliest operations; among those without MACs unknown ones come first.

    Args:
        columns: Graph to describe.
        macs: Multiply-accumulates of each node.
        key: Canonical hash; its first twelve digits are shown.

    Returns:
        An HTML table whose caption is the line of `line`; every name is escaped.
    """
    number = Counter(n.op for n in columns.nodes)
    work = Counter({op: 0 for op in number})
    for node, own in zip(columns.nodes, macs, strict=True):
        work[node.op] += own
    ranked = sorted(number, key=lambda op: (-work[op], is_known(op), -number[op], op))
    shown, rest = ranked[:ROWS], ranked[ROWS:]
    rows = [(op, number[op], work[op]) for op in shown]
    if rest:
        rows.append((f"{len(rest)} others", sum(number[op] for op in rest), sum(work[op] for op in rest)))
    total = max(1, sum(macs))
    unknown = [any(not is_known(o) for o in ([op] if op in number else rest)) for op, _, _ in rows]
    signs = [part_bound(own, columns.causes, odd) for (_, _, own), odd in zip(rows, unknown, strict=True)]
    body = "".join(
        f"<tr><td>{escape(op)}</td><td>{n}</td><td>{signed(scaled(own), sign)}</td><td>{own / total:.1%}</td></tr>"
        for (op, n, own), sign in zip(rows, signs, strict=True)
    )
    return (
        f"<table><caption>{escape(line(columns, sum(macs), key))}</caption>"
        "<thead><tr><th>operation</th><th>nodes</th><th>MACs</th><th>share</th></tr></thead>"
        f"<tbody>{body}</tbody></table>"
    )
