"""A Graph becomes an SVG: boxes are modules, opened as far as the picture stays readable.

Of a kind of box that recurs, one example is opened beside the overview.

A box is an interval of the execution order that ran in one module, so the folded graph has no cycles whatever the
network does. Layers are networkx's topological generations; within a layer boxes stand below the boxes they read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from zlib import crc32

import networkx

from nasplat.graph import Graph, ops
from nasplat.graph.bounds import ABOUT, EXACT, bound, signed
from nasplat.graph.compare import changes

INSETS = 2
"""Largest number of kinds of recurring boxes that are opened beside the overview."""
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN, SIDE = 176, 46, 22, 30, 16, 90
"""Sizes in pixels: a box, the gaps between boxes, the rim of the picture, the room for shortcuts beside the boxes."""
COLOURS = {
    "conv": "#d7e8fb",
    "depthwise": "#d9f1ee",
    "linear": "#e6e0f8",
    "attention": "#fde3ef",
    "pool": "#fdf1d6",
    "other": "#eef0f2",
    "terminal": "#ffffff",
}
"""Fill of a box by its main operation."""


@dataclass(frozen=True)
class Box:
    """Nodes of one module that ran one after another."""

    nodes: tuple[int, ...]
    """Numbers of the nodes in the graph, in execution order."""
    path: str
    """Module path that all of them share."""
    times: int = 1
    """Equal boxes in a row that are drawn as one."""


def draw(graph: Graph, path: str | Path | None = None, boxes: int = 28) -> str:
    """Draw a graph as an SVG in which boxes are modules.

    Args:
        graph: Any graph; views and constants are left out, weights are not shown.
        path: File to write the SVG to; None writes none.
        boxes: Largest number of boxes in the overview and in each inset, as far as the module tree allows; 28 fit on
            one screen.

    Returns:
        The SVG as text, to write to a file or to show in a page.

    Example:
        >>> import torch, nasplat
        >>> draw(nasplat.capture(torch.nn.Linear(4, 2), (1, 4))).startswith("<svg")
        True
    """
    shown = _visible(graph)
    macs = list(shown.node_macs)
    overview = open_boxes(shown, list(_intervals(shown, range(len(shown.nodes)), 0)), boxes)
    panels = [("", overview)]
    kinds = Counter(_kind(shown, b) for b in overview for _ in range(b.times) if len(b.nodes) > 1)
    for kind, count in kinds.most_common(INSETS):
        if count > 1:
            example = next(b for b in overview if _kind(shown, b) == kind)
            first = Box(example.nodes[: len(example.nodes) // example.times], example.path)
            panels.append((f"inside {first.path}, one of {count} such", open_boxes(shown, _open(shown, first), boxes)))
    text = _compose([(title, *_panel(shown, content, macs)) for title, content in panels])
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def draw_diff(first: Graph, second: Graph, path: str | Path | None = None, boxes: int = 40) -> str:
    """Draw two networks side by side and outline in what they differ.

    Args:
        first: Graph of the network before.
        second: Graph of the network after.
        path: File to write the SVG to; None writes none.
        boxes: Largest number of boxes on each side; boxes that hold a difference are opened first.

    Returns:
        The SVG as text, to write to a file or to show in a page.

    Example:
        >>> import torch, nasplat
        >>> plain = nasplat.capture(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()), (1, 4))
        >>> other = nasplat.capture(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU()), (1, 4))
        >>> "1 of 4 operations differ" in draw_diff(plain, other)
        True
    """
    shown = [_visible(g) for g in (first, second)]
    found = changes(*shown)
    panels = []
    for title, g, marks in (
        ("before", shown[0], frozenset(i for c in found for i in c.before)),
        ("after", shown[1], frozenset(i for c in found for i in c.after)),
    ):
        content = open_boxes(g, list(_intervals(g, range(len(g.nodes)), 0)), boxes, marks)
        count = f"{len(marks)} of {len(g.nodes)} operations differ"
        panels.append((f"{title}: {count}", *_panel(g, content, list(g.node_macs), marks)))
    text = _compose(panels)
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _visible(graph: Graph) -> Graph:
    """Leave out views, and constants, which stand at no place of their own."""
    bare = graph.without(ops.HIDDEN)
    return bare.subset([i for i, n in enumerate(bare.nodes) if n.op != "constant"])


def open_boxes(graph: Graph, found: list[Box], limit: int, marks: frozenset[int] = frozenset()) -> list[Box]:
    """Open the fullest box again and again while there are at most `limit`; boxes of which there are several stay shut.

    Boxes of which a part is marked are opened first, however many there are of their kind.

    Args:
        graph: Graph that the boxes belong to.
        found: Boxes to start from, in execution order.
        limit: Largest number of boxes.
        marks: Numbers of nodes that should be seen.

    Returns:
        Boxes in execution order; equal boxes in a row are one.
    """
    shut: set[tuple[int, ...]] = set()
    while True:
        kinds = Counter(_kind(graph, b) for b in found)
        mixed = {b.nodes for b in found if 0 < sum(i in marks for i in b.nodes) < len(b.nodes)} if marks else set()
        candidates = [
            b
            for b in found
            if len(b.nodes) > 1 and b.nodes not in shut and (kinds[_kind(graph, b)] == 1 or b.nodes in mixed)
        ]
        if not candidates:
            return _merge(graph, found)
        fullest = max(candidates, key=lambda b: (b.nodes in mixed, len(b.nodes)))
        opened = [c for b in found for c in (_open(graph, b) if b is fullest else [b])]
        if len(_merge(graph, opened)) > limit:
            shut.add(fullest.nodes)
        else:
            found = opened


def _kind(graph: Graph, box: Box) -> tuple[str, ...]:
    """Name what a box computes, sizes aside."""
    return tuple(graph.nodes[i].op for i in box.nodes[: len(box.nodes) // box.times])


def _intervals(graph: Graph, nodes: range | tuple[int, ...], depth: int) -> Iterator[Box]:
    """Cut nodes into runs whose module paths agree on the first depth + 1 names."""
    run: list[int] = []
    last: str | None = None
    for i in nodes:
        node = graph.nodes[i]
        prefix = node.op if node.op in {"input", "output"} else ".".join(node.path.split(".")[: depth + 1])
        if last is not None and prefix != last:
            yield Box(tuple(run), last)
            run = []
        run.append(i)
        last = prefix
    if run and last is not None:
        yield Box(tuple(run), last)


def _open(graph: Graph, box: Box) -> list[Box]:
    """Replace a box by the boxes inside it: those of its submodules, or its single nodes."""
    longest = max(len(graph.nodes[i].path.split(".")) for i in box.nodes)
    for depth in range(len(box.path.split(".")), longest):
        found = list(_intervals(graph, box.nodes, depth))
        if len(found) > 1:
            return found
    return [Box((i,), graph.nodes[i].path) for i in box.nodes]


def _merge(graph: Graph, found: list[Box]) -> list[Box]:
    """Make one box of equal boxes in a row, each of which reads only the one before."""
    owner = {i: number for number, box in enumerate(found) for i in box.nodes}
    reads = [
        {owner.get(s, -1) for i in box.nodes for s, _ in graph.operands[i] if owner.get(s) != number}
        for number, box in enumerate(found)
    ]
    names = [_signature(graph, box) for box in found]
    merged: list[Box] = []
    for number, box in enumerate(found):
        if (
            merged
            and number
            and names[number] == names[number - 1]
            and len(box.nodes) > 1
            and reads[number] <= {number - 1}
        ):
            before = merged[-1]
            merged[-1] = Box(before.nodes + box.nodes, before.path, before.times + 1)
        else:
            merged.append(box)
    return merged


def _signature(graph: Graph, box: Box) -> tuple[object, ...]:
    """Name what a box computes, sizes and inner edges included."""
    first = box.nodes[0]
    inner = [tuple(s - first if s >= first else -1 for s, _ in graph.operands[i]) for i in box.nodes]
    return tuple((graph.nodes[i].op, graph.nodes[i].attributes, graph.nodes[i].shapes) for i in box.nodes), tuple(inner)


def _compose(panels: list[tuple[str, list[str], float, float]]) -> str:
    """Set panels of (title, SVG parts, width, height) side by side."""
    width = sum(w for _, _, w, _ in panels) + 2 * MARGIN
    height = max(h for _, _, _, h in panels) + 2 * MARGIN + 26
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="system-ui, sans-serif" font-size="12">',
        '<defs><marker id="arrow-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#8a949e"/></marker></defs>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    x = float(MARGIN)
    for title, content, w, _ in panels:
        parts.append(f'<g transform="translate({x + w / 2:.0f}, {MARGIN})">')
        if title:
            parts.append(
                f'<text x="0" y="12" text-anchor="middle" fill="#46505a" font-style="italic">{escape(title)}</text>'
            )
        parts += [f'<g transform="translate(0, {26 if title else 0})">', *content, "</g>", "</g>"]
        x += w
    text = "\n".join([*parts, "</svg>"])
    own = f"arrow-{crc32(text.encode()):08x}"  # a page may hold several drawings, and finds its parts by id
    return text.replace('id="arrow-head"', f'id="{own}"').replace("url(#arrow-head)", f"url(#{own})")


def _panel(
    graph: Graph, folded: list[Box], macs: list[int], marks: frozenset[int] = frozenset()
) -> tuple[list[str], float, float]:
    """Draw boxes and arrows around x = 0; return the SVG parts, the width and the height."""
    owner = {i: number for number, box in enumerate(folded) for i in box.nodes}
    arrows = {(owner[s], owner[t]) for s, _, t, _ in graph.edges if s in owner and t in owner and owner[s] != owner[t]}
    directed = networkx.DiGraph()
    directed.add_nodes_from(range(len(folded)))
    directed.add_edges_from(sorted(arrows))
    place: dict[int, tuple[float, float]] = {}
    widest, layers = 1, 0
    for layer, members in enumerate(networkx.topological_generations(directed)):
        above = {b: [place[a][0] for a in directed.predecessors(b)] for b in members}
        ordered = sorted(members, key=lambda b: (sum(above[b]) / max(1, len(above[b])), b))
        widest, layers = max(widest, len(ordered)), layer + 1
        for i, b in enumerate(ordered):
            place[b] = ((i - (len(ordered) - 1) / 2) * (WIDTH + GAP_X), layer * (HEIGHT + GAP_Y))
    width = widest * (WIDTH + GAP_X) + SIDE
    parts = [_arrow(place[a], place[b], width) for a, b in sorted(arrows)]
    total = max(1, sum(macs))
    parts += [_box(graph, box, place[number], macs, total, marks) for number, box in enumerate(folded)]
    return parts, width, layers * (HEIGHT + GAP_Y)


def _arrow(start: tuple[float, float], end: tuple[float, float], width: float) -> str:
    """Draw an arrow from the foot of one box to the head of another."""
    (x0, y0), (x1, y1) = (start[0], start[1] + HEIGHT), end
    span = y1 - y0
    if span > HEIGHT + 2 * GAP_Y and abs(x0 - x1) < WIDTH / 2:  # a shortcut runs beside what it skips
        side = min(max(x0, x1) + WIDTH / 2 + 14 + span / 40, width / 2 - 8)
        curve = f"M{x0 + WIDTH / 2 - 8} {y0} C{side} {y0 + 20} {side} {y1 - 20} {x1 + WIDTH / 2 - 8} {y1}"
    else:
        curve = f"M{x0} {y0} C{x0} {y0 + span / 2} {x1} {y1 - span / 2} {x1} {y1}"
    return f'<path d="{curve}" fill="none" stroke="#8a949e" stroke-width="1.2" marker-end="url(#arrow-head)"/>'


def _box(
    graph: Graph, box: Box, where: tuple[float, float], macs: list[int], total: int, marks: frozenset[int] = frozenset()
) -> str:
    """Draw one box with its title, its output's size and its share of the MACs."""
    x, y = where[0] - WIDTH / 2, where[1]
    nodes = [graph.nodes[i] for i in box.nodes]
    share = sum(macs[i] for i in box.nodes) / total
    count = Counter(n.op for n in nodes)
    main = graph.nodes[max(box.nodes, key=lambda i: (macs[i], graph.nodes[i].op in ops.WEIGHTED))]
    last = next((n for n in reversed(nodes) if n.shapes), main)
    title = main.op if len(nodes) == 1 else ".".join(box.path.split(".")[-2:]) or main.op
    if len(nodes) == 1 and "kernel" in dict(main.attributes):
        title += " " + "×".join(map(str, main.get("kernel")))  # type: ignore[call-overload]
    times = f" ×{box.times}" if box.times > 1 else ""
    # of a total that is no exact count a share is none either
    part = signed(f"{share:.1%} MACs", ABOUT if bound(graph.causes, bool(graph.unknown_ops)) else EXACT)
    line = f"{'×'.join(map(str, last.shape[1:])) or 'scalar'}" + (f" · {part}" if share >= 0.0005 else "")
    kind = "terminal" if main.op in ops.TERMINAL else "pool" if main.op in ops.POOLING else main.op
    differs = sum(i in marks for i in box.nodes)
    stroke = f'"#c2410c" stroke-width="{3.2 if differs == len(box.nodes) else 2}"' if differs else None
    stroke = stroke or f'"#5b6670" stroke-width="{2.2 if box.times > 1 else 1}"'
    inside = ", ".join(f"{c} {op}" for op, c in count.most_common(8))
    note = f"; {differs} of {len(box.nodes)} differ" if differs else ""
    params = sum(graph.weights[w].size for n in nodes for w in n.weights)
    tip = f"{box.path or '(root)'}{times}: {inside}; {params:,} parameters{note}"
    return (
        f'<g><title>{escape(tip)}</title><rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7" '
        f'fill="{COLOURS.get(kind, COLOURS["other"])}" stroke={stroke}/>'
        f'<text x="{where[0]}" y="{y + 19}" text-anchor="middle" font-weight="600">'
        f"{escape((title + times)[:26])}</text>"
        f'<text x="{where[0]}" y="{y + 36}" text-anchor="middle" fill="#46505a" font-size="11">'
        f"{escape(line)}</text></g>"
    )
