"""Fused attention of ONNX Runtime, written out as projections, views and ONNX's own attention.

Every form comes down to ONNX's form of three axes: queries (batch, steps, heads · width), keys and values alike, and a
past of four axes (batch, heads, steps, width).
"""

from __future__ import annotations

import numpy as np

from nasplat.frontends.onnx_writer import Unclear, Writer


def attention(w: Writer) -> None:
    """Write out `Attention` and `QAttention`: one packed projection to queries, keys and values, then attention.

    Args:
        w: Writer of the node.

    Raises:
        Unclear: widths do not fit together, or the past holds something else than keys and values.
    """
    is_quantised = w.node.op_type == "QAttention"
    mask, past, extra = (w.input(i) for i in ((5, 8, 99) if is_quantised else (3, 4, 5)))
    packed = w.add("MatMul", [w.floats(w.input(0)), w.floats(w.input(1))])
    if w.input(2):
        packed = w.add("Add", [packed, w.input(2)])
    width = w.shape(1)[-1]
    sizes = list(w.a.get("qkv_hidden_sizes", ())) or [width // 3] * 3
    if sum(sizes) != width:
        raise Unclear
    sides = w.split(packed, sizes, 2)
    before = ("", "")
    if past:
        two, batch, heads, steps, each = w.tensors.shape[past]
        if two != 2:
            raise Unclear
        halves = w.split(past, [1, 1], 0)
        before = (w.view(halves[0], batch, heads, steps, each), w.view(halves[1], batch, heads, steps, each))
    now = (f"{w.stem}/key", f"{w.stem}/value") if w.output(1) else ("", "")
    heads = int(w.a["num_heads"])
    _attend(w, sides, (heads, heads), extra or mask, before, (w.output(0), *now))
    if w.output(1):
        axis = w.ints(0)
        w.add("Concat", [w.add("Unsqueeze", [n, axis]) for n in now], w.output(1), axis=0)


def many_headed_attention(w: Writer) -> None:
    """Write out `MultiHeadAttention` and its form for decoders: queries, keys and values apart or packed.

    Args:
        w: Writer of the node.
    """
    is_decoder = w.node.op_type.startswith("Decoder")
    bias, mask, extra, past = (10, 3, 4, 5) if is_decoder else (3, 4, 5, 6)
    heads = int(w.a["num_heads"])
    sides = _apart(w, heads)
    if w.input(bias):
        (total,) = w.shape(bias)
        width = w.tensors.shape[w.input(0)][-1] if len(w.shape(0)) == 3 else total // 3
        parts = w.split(w.input(bias), [width, width, total - 2 * width], 0)
        crossed = bool(w.input(1)) and len(w.shape(1)) == 4  # keys that were projected, with their bias, before
        sides = [
            s if crossed and i else w.add("Add", [s, b]) for i, (s, b) in enumerate(zip(sides, parts, strict=True))
        ]
    before = (w.input(past), w.input(past + 1))
    names = tuple(w.output(i) for i in range(4))
    _attend(w, sides, (heads, heads), w.input(extra) or w.input(mask), before, names)


def grouped_attention(w: Writer) -> None:
    """Write out `GroupQueryAttention`: several heads of queries for one head of keys and values.

    Args:
        w: Writer of the node.
    """
    heads, groups = int(w.a["num_heads"]), int(w.a["kv_num_heads"])
    sides = [w.input(i) for i in range(3)]
    if not sides[1]:
        each = w.shape(0)[2] // (heads + 2 * groups)
        sides = w.split(sides[0], [heads * each, groups * each, groups * each], 2)
    if w.a.get("do_rotary"):
        kept = w.kept("rotary_embedding_dim")
        sides[:2] = [
            w.add("RotaryEmbedding", [side, w.input(7), w.input(8)], num_heads=n, **kept)
            for side, n in zip(sides, (heads, groups), strict=False)
        ]
    total = w.tensors.value.get(w.input(6))
    known = int(np.asarray(total).reshape(-1)[0]) if total is not None and np.size(total) else None
    names = tuple(w.output(i) for i in range(4))
    _attend(w, sides, (heads, groups), w.input(10), (w.input(3), w.input(4)), names, known)


def _apart(w: Writer, heads: int) -> list[str]:
    """Queries, keys and values of three axes each."""
    sides = [w.input(i) for i in range(3)]
    if len(w.shape(0)) == 5:
        return _unpacked(w, sides[0], 3)
    if not sides[1]:
        raise Unclear
    if len(w.shape(1)) == 5:
        return [sides[0], *_unpacked(w, sides[1], 2)]
    for i in (1, 2):
        shape = w.shape(i)
        if len(shape) == 4:
            turned = w.moved(sides[i], [0, 2, 1, 3])
            sides[i] = w.view(turned, shape[0], shape[2], shape[1] * shape[3])
    return sides


def _unpacked(w: Writer, name: str, number: int) -> list[str]:
    """Tensors that lie packed per head: (batch, steps, heads, number, width)."""
    batch, steps, heads, packed, width = w.tensors.shape[name]
    if packed != number:
        raise Unclear
    return [w.view(piece, batch, steps, heads * width) for piece in w.split(name, [1] * number, 3)]


def _attend(
    w: Writer,
    sides: list[str],
    heads: tuple[int, int],
    mask: str,
    past: tuple[str, str],
    outputs: tuple[str, ...],
    total: int | None = None,
) -> None:
    """ONNX's attention; where the past is a buffer of the most there can be, as much of it as the total says."""
    kept = list(past)
    if past[0] and past[0] in w.tensors.shape:
        room, new = w.tensors.shape[past[0]][2], w.shape(1)[-2] if w.input(1) and len(w.shape(1)) > 2 else w.shape(0)[1]
        shared = bool(w.a.get("past_present_share_buffer"))
        used = max(0, total - new) if total is not None else max(0, room - new) if shared else room
        if total is None and room and (shared or w.node.op_type == "GroupQueryAttention"):
            w.at_most("the length of the past")
        if used < room:
            kept = [w.add("Slice", [n, w.ints(0), w.ints(used), w.ints(2)]) for n in past]
    inputs = [*sides, mask, *kept]
    while not inputs[-1]:
        inputs.pop()
    named = list(outputs)
    while not named[-1]:
        named.pop()
    causal = int(bool(w.a.get("unidirectional", w.node.op_type == "GroupQueryAttention")))
    w.add("Attention", inputs, named, q_num_heads=heads[0], kv_num_heads=heads[1], is_causal=causal)
