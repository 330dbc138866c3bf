"""What a decoder costs token by token: a whole prompt, one more token behind a cache, and the cache itself.

A decoder looks tokens up in a table, and every attention of it lets a token see itself and those before. Attention is
found in the graph, fused (one node) or written out (product, mask, softmax, product), whatever the network is called.
The graph of T tokens tells what each operation costs per token or per pair of tokens, so that other lengths need no
other capture. All pairs count, hidden ones among them, as they do in `nasplat.graph.cost`. Keys and values count where
they are smallest behind their projection: before heads that share them are copied, as caches hold them (Shazeer 2019,
arXiv:1911.02150; Ainslie et al. 2023, arXiv:2305.13245). Windows are not seen: a cache is counted as if it kept all.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import prod

from nasplat.errors import GraphError
from nasplat.graph import ops
from nasplat.graph.columns import BITS, Columns, Shape
from nasplat.graph.cost import node_macs

ORDERS = frozenset({"lt", "le", "gt", "ge", "less", "less_equal", "greater", "greater_equal"})
"""Comparisons by which a mask tells earlier tokens from later ones."""
_ENDS = frozenset({*ops.WEIGHTED, *ops.NORMALISATION, "input", "constant"})
"""Operations behind which the scores of an attention do not begin."""


@dataclass(frozen=True)
class Decoding:
    """Costs of a decoder by tokens and pairs of tokens; see `decoding_of`."""

    batch: int
    """Sequences of the captured pass."""
    length: int
    """Tokens of each of its sequences."""
    tokens: tuple[int, ...]
    """Multiply-accumulates of one token of one sequence outside the products of attention: up to the first attention,
    from each to the next, and behind the last."""
    pairs: tuple[int, ...]
    """Multiply-accumulates of one token that looks at one token, in each attention."""
    sequence_macs: int
    """Multiply-accumulates of a pass over one sequence, however long it is: of a head on the last token alone."""
    place_macs: int
    """Multiply-accumulates of one place, whatever tokens stand there and in however many sequences."""
    cached: tuple[tuple[int, int], ...]
    """Numbers per token, and bytes of a number, of each tensor of keys or values that a cache keeps."""

    @property
    def layers(self) -> int:
        """Number of attentions."""
        return len(self.pairs)

    @property
    def token_macs(self) -> int:
        """Multiply-accumulates of one token of one sequence, outside the products of attention."""
        return sum(self.tokens)

    @property
    def pair_macs(self) -> int:
        """Multiply-accumulates of one token that looks at one token, over all attentions."""
        return sum(self.pairs)

    def prefill_macs(self, length: int | None = None, batch: int = 1) -> int:
        """Count a pass over whole sequences.

        Args:
            length: Tokens of each sequence; None for as many as were captured.
            batch: Number of sequences.

        Returns:
            Multiply-accumulates.
        """
        n = self.length if length is None else length
        return batch * (n * self.token_macs + n * n * self.pair_macs + self.sequence_macs) + n * self.place_macs

    def decode_macs(self, cache: int | None = None, batch: int = 1) -> int:
        """Count one more token of each sequence, which looks at the tokens in the cache and at itself.

        Args:
            cache: Tokens whose keys and values are kept already; None for as many as were captured.
            batch: Number of sequences.

        Returns:
            Multiply-accumulates.
        """
        seen = (self.length if cache is None else cache) + 1
        return batch * (self.token_macs + seen * self.pair_macs + self.sequence_macs) + self.place_macs

    def kv_bytes(self, tokens: int = 1, batch: int = 1, precision: str | None = None) -> int:
        """Count the keys and values that a cache keeps.

        Args:
            tokens: Tokens of each sequence.
            batch: Number of sequences.
            precision: Name of a type of numbers, such as 'bfloat16'; None for the types that were captured.

        Returns:
            Bytes.
        """
        bits = [8 * size if precision is None else BITS[precision] for _, size in self.cached]
        return -(-batch * tokens * sum(n * b for (n, _), b in zip(self.cached, bits, strict=True)) // 8)


def decoding_of(graph: Columns) -> Decoding:
    """Read from a graph what its tokens cost.

    Args:
        graph: Capture of a decoder on two tokens or more, without a cache.

    Returns:
        Costs by tokens and pairs.

    Raises:
        GraphError: it is no decoder, or how an operation grows with the sequence cannot be told.

    Example:
        >>> import nasplat
        >>> decoder = nasplat.load_space("gpt").extreme().graph()
        >>> found = decoding_of(decoder)
        >>> found.layers, found.kv_bytes() == 4 * 2 * 4 * 16 * 4, found.prefill_macs() == decoder.macs
        (4, True, True)
    """
    return _Reader(graph).read()


STORED = -1
"""Stands for a mask that an ONNX file stores: it is no node of the graph, but an attribute of the one that reads it."""


class _Reader:
    """One reading of a graph."""

    def __init__(self, graph: Columns) -> None:
        self.graph, self.nodes, self.operands = graph, graph.nodes, graph.operands
        self.batch, self.length = self._tokens()
        self.readers: list[list[int]] = [[] for _ in self.nodes]
        for source, _, target, _ in graph.edges:
            self.readers[source].append(target)
        self.is_fed = [node.op == "input" for node in self.nodes]
        for i, operands in enumerate(self.operands):
            self.is_fed[i] = self.is_fed[i] or any(self.is_fed[s] for s, _ in operands)
        self.products: dict[int, int] = {}
        """Multiply-accumulates of every node that belongs to an attention."""
        self.caches: dict[tuple[int, int], tuple[int, int]] = {}
        """Numbers per token and their bytes by the node and slot that a cache keeps."""

    def read(self) -> Decoding:
        """Find attention, then count the rest."""
        pairs, anchors = list[int](), list[int]()
        for i in range(len(self.nodes)):
            before = sum(self.products.values())
            if self._fused(i) or self._written_out(i):
                anchors.append(i)
                pairs.append((sum(self.products.values()) - before) // (self.batch * self.length**2))
        if not anchors:
            raise GraphError(_no_decoder("no attention among tokens"))
        tokens, rest = [0] * (len(anchors) + 1), {"sequence": 0, "place": 0}
        for i in range(len(self.nodes)):
            macs = 0 if i in self.products else node_macs(self.nodes[i], self.graph.input_shapes(i))
            kind, share = self._share(i) if macs else ("token", 1)
            if kind == "token":
                tokens[bisect_left(anchors, i)] += macs // share
            else:
                rest[kind] += macs // share
        kept = tuple(self.caches.values())
        return Decoding(self.batch, self.length, tuple(tokens), tuple(pairs), rest["sequence"], rest["place"], kept)

    def _tokens(self) -> tuple[int, int]:
        """Sequences and tokens of the input that a table is read by."""
        for i, node in enumerate(self.nodes):
            if node.op != "embedding":
                continue
            left, seen = [s for s, _ in self.operands[i]], set[int]()
            while left:
                at = left.pop()
                shape = self.nodes[at].shape
                if self.nodes[at].op == "input" and len(shape) == 2:
                    if shape[1] < 2 or not shape[0]:
                        raise GraphError(
                            f"expected a decoder captured on two tokens or more, got an input of shape {shape}.\n"
                            "  Capture it on a longer sequence, such as torch.zeros(1, 64, dtype=torch.int64)."
                        )
                    return shape[0], shape[1]
                if at not in seen and self.nodes[at].op not in _ENDS:
                    seen.add(at)
                    left += [s for s, _ in self.operands[at]]
        raise GraphError(_no_decoder("no table of tokens that an input of shape (sequences, tokens) is looked up in"))

    def _fused(self, i: int) -> bool:
        """Take note of attention that is one node."""
        node = self.nodes[i]
        if node.op != "attention":
            return False
        queries, keys = node.shape[-2:-1], node.get("keys")
        is_masked = len(self.operands[i]) > 3 and self._tells_order(self.operands[i][3][0])
        self._check(i, (*queries, int(keys)), bool(node.get("causal")) or is_masked)  # type: ignore[call-overload]
        self.products[i] = node_macs(node, self.graph.input_shapes(i))
        for operand, width in zip(self.operands[i][1:3], (node.get("width"), node.shape[-1]), strict=True):
            if self.nodes[operand[0]].shapes[operand[1]][-1:] != (width,):
                raise GraphError(_latent(node.path))
            self._keep(operand)
        return True

    def _written_out(self, i: int) -> bool:
        """Take note of attention that is a softmax between products."""
        node = self.nodes[i]
        if node.op != "softmax" or len(node.shape) < 2 or self.length not in node.shape[-2:]:
            return False
        value = self._value_product(i)
        if value is None:
            return False
        found, masks = list[int](), list[int]()
        self._scores(i, found, masks, {})
        if not found:
            return False
        is_causal = any(m == STORED or self._tells_order(m) for m in masks)
        for product in (*found, value):
            self.products[product] = node_macs(self.nodes[product], self.graph.input_shapes(product))
            if product != value:  # a softmax may have more places than there are keys, of what a head may look at else
                self._check(product, self.nodes[product].shape[-2:], is_causal)
                queries, keys = self.operands[product][-2:]
                swapped = self.is_fed[queries[0]] and self._smallest(queries)[1] < self._smallest(keys)[1]
                rows = self.nodes[keys[0]].shapes[keys[1]][-2:-1]
                if rows != (self.nodes[product].get("inner"),):
                    raise GraphError(_latent(self.nodes[product].path))
                if self.is_fed[keys[0]]:  # of encoded distances there is nothing to keep
                    self._keep(queries if swapped else keys)
        self._keep(self.operands[value][-1])
        return True

    def _value_product(self, i: int) -> int | None:
        """The product of attention's shares with values: the first product behind a softmax."""
        at = i
        while len(self.readers[at]) >= 1:
            following = self.readers[at][0]
            if self.nodes[following].op == "matmul":
                return following if len(self.operands[following]) == 2 else None
            if self.nodes[following].op not in {*ops.HIDDEN, "mul", "where"}:
                return None
            at = following
        return None

    def _scores(self, i: int, found: list[int], masks: list[int], seen: dict[int, bool]) -> bool:
        """Gather the products that a softmax is of, and what else is put into their sum; whether there are any."""
        if i in seen:
            return seen[i]
        node = self.nodes[i]
        if node.op == "matmul":
            found.append(i)
            masks += [s for s, _ in self.operands[i][:-2]]  # what baddbmm adds
            seen[i] = True
            return True
        if node.op in {"where", "add"} and node.get("causal"):
            masks.append(STORED)
        seen[i] = False
        if node.op in _ENDS:
            return False
        sources = [s for s, _ in self.operands[i]]
        holds = [self._scores(s, found, masks, seen) for s in sources]
        seen[i] = any(holds)
        if seen[i]:
            masks += [s for s, held in zip(sources, holds, strict=True) if not held]
        return seen[i]

    def _tells_order(self, i: int) -> bool:
        """Whether a mask has been made by comparing places, or is a stored table of rows that differ."""
        left, seen = [i], set[int]()
        while left:
            at = left.pop()
            node, shape = self.nodes[at], self.nodes[at].shape
            if at in seen or node.op in ops.WEIGHTED:
                continue
            seen.add(at)
            function = str(node.get("function", "")).lower()
            is_table = len(shape) > 1 and min(shape[-2:]) > 1
            if is_table and (node.op == "constant" or function in {"tril", "triu", *ORDERS}):
                return True
            left += [s for s, _ in self.operands[at]]
        return False

    def _check(self, i: int, sizes: Shape, is_causal: bool) -> None:
        """Refuse attention to other sequences, and to later tokens."""
        place = self.nodes[i].path or self.nodes[i].op
        if tuple(sizes) != (self.length, self.length):
            raise GraphError(
                f"expected attention among the {self.length} tokens of the input, got one of {sizes[0]} to {sizes[-1]} "
                f"at {place!r}.\n  Capture a decoder without a cache, and without a second sequence."
            )
        if not is_causal:
            raise GraphError(_no_decoder(f"attention at {place!r} that is not known to hide later tokens"))

    def _smallest(self, operand: tuple[int, int]) -> tuple[tuple[int, int], int]:
        """Follow keys or values back to where they have the fewest numbers, as long as they are but moved."""
        at, size = operand, prod(self.nodes[operand[0]].shapes[operand[1]])
        best, least = at, size
        while self.operands[at[0]]:
            source = self.operands[at[0]][0]
            before = prod(self.nodes[source[0]].shapes[source[1]])
            op, function = self.nodes[at[0]].op, self.nodes[at[0]].get("function")
            is_repeated = before < size and (op in {"expand", "gather"} or function in {"repeat_interleave", "repeat"})
            if op not in ops.HIDDEN and not is_repeated:
                break
            if before < size and not is_repeated:  # written into a larger tensor, part by part
                raise GraphError(_latent(self.nodes[at[0]].path))
            if before <= least:
                best, least = source, before
            at, size = source, before
        return best, least

    def _keep(self, operand: tuple[int, int]) -> None:
        """Take note of keys or values; a tensor that several attentions read is kept once."""
        place, size = self._smallest(operand)
        if self.nodes[place[0]].op == "concat":  # parts of keys: turned and plain numbers, each of every head
            parts = [prod(self.nodes[s].shapes[slot]) for s, slot in self.operands[place[0]]]
            least = [self._smallest(o)[1] for o in self.operands[place[0]]]
            if any(few < many for few, many in zip(least, parts, strict=True)):
                raise GraphError(_latent(self.nodes[place[0]].path))
        share, odd = divmod(size, self.batch * self.length)
        if odd:
            raise GraphError(
                f"expected keys and values of {self.length} tokens, got {size} numbers at "
                f"{self.nodes[place[0]].path or self.nodes[place[0]].op!r}.\n  Capture a decoder without a cache."
            )
        self.caches[place] = (share, self.nodes[place[0]].itemsize)

    def _share(self, i: int) -> tuple[str, int]:
        """What an operation is counted by, and how many of these the captured pass had."""
        node, tokens = self.nodes[i], self.batch * self.length
        width = node.shape[1] if node.op in {"conv", "depthwise", "deform"} and len(node.shape) > 1 else None
        rows = prod(node.shape) // (width or node.shape[-1] or 1) if node.shape else 1
        if node.op == "recurrent":
            rows = tokens
        if not self.is_fed[i]:
            return ("place", self.length) if rows % self.length == 0 else ("place", 1)
        if rows % tokens == 0:
            return "token", tokens
        if node.op == "matmul":
            raise GraphError(
                f"expected products of attention or of tokens, got one of shape {node.shape} at {node.path!r}: how it "
                "grows with the sequence is not known.\n  Costs of single tokens cannot be told."
            )
        return "sequence", self.batch if rows % self.batch == 0 else 1


def _no_decoder(got: str) -> str:
    return (
        "expected a decoder, which looks tokens up in a table and lets each see those before it, got "
        f"{got}.\n  Costs of prompts, single tokens and caches are those of decoders alone."
    )


def _latent(path: str) -> str:
    return (
        "expected keys and values that a cache holds as attention reads them, got keys put together of parts at "
        f"{path!r}, as of latent attention.\n  Whether a cache holds latents or keys is the runtime's choice, so that "
        "neither its bytes nor the cost of a token are told."
    )
