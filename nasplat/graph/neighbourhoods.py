"""Counts of a graph's neighbourhoods: what stands where, in words of growing width.

Source: Shervashidze et al. 2011, JMLR 12 (Weisfeiler-Lehman subtree features); for architectures: Ru et al., ICLR 2021,
arXiv:2006.07556 (NAS-BOWL).
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from math import log2, prod

from nasplat.graph import ops
from nasplat.graph.graph import Graph, Node

ROUNDS = 3


def neighbourhoods(graph: Graph, rounds: int = ROUNDS) -> Counter[tuple[int, str]]:
    """How often each neighbourhood occurs.

    Args:
        graph: Any graph; dead code, additions of zeros, views and batch normalisation are folded first.
        rounds: Largest distance that a neighbourhood reaches.

    Returns:
        Counts by (distance, digest of the neighbourhood): equal digests mean equal operations, in equal places around.
    """
    g = graph.folded.without((*ops.HIDDEN, "batchnorm"))
    before: list[list[int]] = [[] for _ in g.nodes]
    after: list[list[int]] = [[] for _ in g.nodes]
    for s, _, t, _ in g.edges:
        before[t].append(s)
        after[s].append(t)
    words = [_word(n) for n in g.nodes]
    found = Counter((0, w) for w in words)
    for r in range(1, rounds + 1):
        words = [
            _digest(f"{w}<{','.join(sorted(words[s] for s in before[i]))}>{','.join(sorted(words[t] for t in after[i]))}")
            for i, w in enumerate(words)
        ]
        found.update((r, w) for w in words)
    return found


def _word(node: Node) -> str:
    window = prod(node.get("kernel", (1,)))  # type: ignore[arg-type]
    stride = prod(node.get("stride", (1,)))  # type: ignore[arg-type]
    channels = node.shape[1] if len(node.shape) >= 4 else node.shape[-1] if node.shape else 1
    return f"{node.op} {window} {stride} {round(2 * log2(max(1, channels)))}"


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
