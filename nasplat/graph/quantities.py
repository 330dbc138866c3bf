"""Quantities of a graph by name, with the conditions under which a cost holds: sequences, tokens, and precision.

`macs`, `params` and `activation_bytes` have none. `decode_macs@8x4096` is one more token of each of eight sequences
that have 4,096 in the cache, `kv_bytes@4096,bf16` what that cache holds of one, `weight_bytes@int4` what weights take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from nasplat.errors import GraphError
from nasplat.graph.columns import BITS
from nasplat.graph.decoding import Decoding, decoding_of
from nasplat.graph.graph import Graph

PLAIN = ("macs", "params", "activation_bytes")
"""Quantities of a graph as it was captured."""
WITH_TOKENS = ("prefill_macs", "decode_macs", "kv_bytes")
"""Quantities of decoders, at a number of tokens."""
COUNTED = (*PLAIN, "weight_bytes", *WITH_TOKENS)
"""Names of all quantities, without conditions."""
PRECISIONS = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp8": "float8_e4m3fn",
    "int8": "int8",
    "int4": "int4",
}
"""Types of numbers by their short names; the bits of weights alone count, not the scales that go with them."""
EXAMPLES = "decode_macs@4096, kv_bytes@8x4096,bf16 or weight_bytes@int8"
"""Names with conditions, as errors show them."""


@dataclass(frozen=True)
class Quantity:
    """What is counted, and under which conditions.

    Example:
        >>> Quantity.of("kv_bytes@8x4096,bf16")
        Quantity(name='kv_bytes', tokens=4096, batch=8, precision='bfloat16')
    """

    name: str
    """One of `COUNTED`."""
    tokens: int | None = None
    """Tokens of a prompt, or in the cache; None for those of the example, and for the bytes of one token."""
    batch: int = 1
    """Number of sequences."""
    precision: str | None = None
    """Type of numbers; None for those that were captured."""

    @staticmethod
    @cache
    def of(text: str) -> Quantity:
        """Read a name.

        Args:
            text: Name of a quantity; behind an @ the number of tokens, or of sequences x tokens, a precision, or both.

        Returns:
            The quantity.

        Raises:
            GraphError: there is no such quantity, or it has no such condition.
        """
        name, at, conditions = text.partition("@")
        if name not in COUNTED:
            raise GraphError(f"expected a quantity among {', '.join(COUNTED)}, got {text!r}.\n  Use one of these.")
        tokens, batch, precision = None, 1, None
        for word in conditions.split(",") if at else ():
            rows, times, columns = word.rpartition("x")
            sizes = [*([rows] if times else []), columns]
            if word in PRECISIONS and precision is None and name in {"weight_bytes", "kv_bytes"}:
                precision = PRECISIONS[word]
            elif all(s.isdecimal() and int(s) > 0 for s in sizes) and tokens is None and name in WITH_TOKENS:
                tokens, batch = int(columns), int(rows) if times else 1
            else:
                raise GraphError(
                    f"expected conditions such as {EXAMPLES}, with a precision among {', '.join(PRECISIONS)}, got "
                    f"{word!r} in {text!r}.\n  Tokens belong to {', '.join(WITH_TOKENS)}, precisions to bytes."
                )
        return Quantity(name, tokens, batch, precision)

    def count(self, sizes: Sizes) -> int:
        """Count.

        Args:
            sizes: Sizes of a network.

        Returns:
            Multiply-accumulates, parameters or bytes.

        Raises:
            GraphError: the quantity is one of decoders, and the network is none.
        """
        if self.name in PLAIN:
            return getattr(sizes, self.name)
        if self.name == "weight_bytes":
            return sum(-(-n * BITS[self.precision or dtype] // 8) for n, dtype in sizes.weights)
        decoding = sizes.decoding
        if isinstance(decoding, str):
            raise GraphError(decoding)
        if self.name == "kv_bytes":
            return decoding.kv_bytes(self.tokens or 1, self.batch, self.precision)
        count: Callable[[int | None, int], int] = getattr(decoding, self.name)
        return count(self.tokens, self.batch)

    @property
    def alike(self) -> str:
        """The quantity of `PLAIN` that is exact where this one is."""
        return {"weight_bytes": "params"}.get(self.name, self.name if self.name in PLAIN else "macs")


@dataclass(frozen=True)
class Sizes:
    """What all quantities of a network are counted from, without its graph."""

    macs: int
    """Multiply-accumulates of one pass."""
    params: int
    """Number of parameters."""
    activation_bytes: int
    """Peak of activations."""
    weights: tuple[tuple[int, str], ...]
    """Number of elements and type of each trained tensor in use."""
    decoding: Decoding | str
    """Costs of tokens; of a network that is no decoder why it is none."""

    @staticmethod
    def of(graph: Graph) -> Sizes:
        """Read a graph.

        Args:
            graph: Graph of any network.

        Returns:
            Its sizes.
        """
        used = sorted({w for node in graph.nodes for w in node.weights})
        try:
            decoding: Decoding | str = decoding_of(graph)
        except GraphError as err:
            decoding = str(err)
        weights = tuple((graph.weights[w].size, graph.weights[w].dtype) for w in used)
        return Sizes(graph.macs, graph.params, graph.activation_bytes, weights, decoding)


def count(graph: Graph, name: str) -> int:
    """Count a quantity of a graph.

    Args:
        graph: Graph of a network.
        name: Name of a quantity with its conditions, such as 'decode_macs@4096'.

    Returns:
        Multiply-accumulates, parameters or bytes.

    Raises:
        GraphError: there is no such quantity, or it is one of decoders, and the network is none.

    Example:
        >>> import nasplat
        >>> decoder = nasplat.load_space("gpt").extreme().graph()
        >>> count(decoder, "kv_bytes@1024,bf16"), count(decoder, "weight_bytes@int8") == decoder.params
        (1048576, True)
    """
    quantity = Quantity.of(name)
    return getattr(graph, name) if name in PLAIN else quantity.count(Sizes.of(graph))


def refusal(name: str) -> str:
    """Say what is wrong with the name of a quantity.

    Args:
        name: Name with its conditions.

    Returns:
        Sentences of an error; empty where the quantity is one.

    Example:
        >>> refusal("kv_bytes@1024"), refusal("flops").splitlines()[0][:40]
        ('', 'expected a quantity among macs, params, ')
    """
    try:
        Quantity.of(name)
    except GraphError as err:
        return str(err)
    return ""
