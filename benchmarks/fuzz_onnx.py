"""Broken ONNX files give a graph or one typed error: within 5 s and 1 GiB, and nothing outside the file's folder is opened.

Nine files of different kinds are mutated: cut short, bits flipped, bytes overwritten or inserted, nodes wired in circles, absurd
shapes and attributes, external data that points elsewhere, tensors that declare 10 GB, operators exchanged, functions that call
themselves. Every file is read in a process of its own, whose peak memory is measured and whose `open` calls are audited.

    python benchmarks/fuzz_onnx.py --n 2000
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nasplat.errors import NasplatError
from nasplat.frontends import capture_onnx

SECONDS = 5
BYTES = 2**30


def _value(name: str, shape: list[Any] | None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def _weight(name: str, *dims: int) -> Any:
    return numpy_helper.from_array(np.zeros(dims, np.float32), name)


def _ints(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def seeds() -> dict[str, Any]:
    """Files to start from."""
    node = helper.make_node
    cnn = helper.make_graph(
        [
            node("Conv", ["x", "w", "b"], ["a"], pads=[1, 1, 1, 1]),
            node("BatchNormalization", ["a", "s", "o", "m", "v"], ["n"]),
            node("Relu", ["n"], ["r"]),
            node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            node("GlobalAveragePool", ["p"], ["g"]),
            node("Flatten", ["g"], ["f"]),
            node("Gemm", ["f", "fw", "fb"], ["y"], transB=1),
        ],
        "cnn",
        [_value("x", ["N", 3, 16, 16])],
        [_value("y", None)],
        [_weight("w", 8, 3, 3, 3), *(_weight(n, 8) for n in "bsomv"), _weight("fw", 4, 8), _weight("fb", 4)],
    )
    shapes = helper.make_graph(
        [
            node("Shape", ["x"], ["sh"]),
            node("Gather", ["sh", "zero"], ["batch"], axis=0),
            node("Unsqueeze", ["batch", "zero1"], ["b1"]),
            node("Concat", ["b1", "minus"], ["to"], axis=0),
            node("MatMul", ["x", "w"], ["m"]),
            node("Add", ["m", "b"], ["q"]),
            node("Reshape", ["q", "to"], ["flat"]),
            node("Softmax", ["flat"], ["soft"], axis=-1),
            node("Expand", ["soft", "big"], ["e"]),
            node("ReduceMean", ["e"], ["y"], axes=[0], keepdims=0),
        ],
        "shapes",
        [_value("x", [2, 5, 8])],
        [_value("y", None)],
        [_weight("w", 8, 8), _weight("b", 8), _ints("zero1", 0), _ints("minus", -1), _ints("big", 3, 2, 40)],
    )
    shapes.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "zero"))
    inside = helper.make_graph([node("Relu", ["x"], ["t"])], "then", [], [_value("t", None)])
    outside = helper.make_graph([node("Tanh", ["x"], ["u"])], "else", [], [_value("u", None)])
    body = helper.make_graph(
        [node("Add", ["s", "x"], ["s2"]), node("Identity", ["c"], ["c2"]), node("Relu", ["s2"], ["out"])],
        "body",
        [_value("i", [], TensorProto.INT64), _value("c", [], TensorProto.BOOL), _value("s", [1, 4])],
        [_value("c2", [], TensorProto.BOOL), _value("s2", [1, 4]), _value("out", [1, 4])],
    )
    flow = helper.make_graph(
        [
            node("ReduceSum", ["x"], ["sum"], keepdims=0),
            node("Greater", ["sum", "half"], ["cond"]),
            node("If", ["cond"], ["h"], then_branch=inside, else_branch=outside),
            node("Loop", ["times", "yes", "h"], ["last", "all"], body=body),
            node("ReduceMax", ["all"], ["most"], keepdims=0),
            node("Mul", ["last", "most"], ["y"]),
        ],
        "flow",
        [_value("x", [1, 4])],
        [_value("y", None)],
        [_ints("times", 5)],
    )
    flow.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    flow.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    function = helper.make_function(
        "own",
        "Block",
        ["a"],
        ["b"],
        [node("Relu", ["a"], ["t"]), node("Add", ["t", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    functions = helper.make_graph(
        [node("Block", ["x"], ["h"], domain="own"), node("Block", ["h"], ["y"], domain="own")],
        "functions",
        [_value("x", [1, 4])],
        [_value("y", None)],
    )
    recurrent = helper.make_graph(
        [node("LSTM", ["x", "w", "r", "b"], ["seq", "h", "c"], hidden_size=6), node("TopK", ["h", "k"], ["y", "at"])],
        "recurrent",
        [_value("x", [5, 2, 8])],
        [_value("y", None)],
        [_weight("w", 1, 24, 8), _weight("r", 1, 24, 6), _weight("b", 1, 48), _ints("k", 2)],
    )

    def model(graph: Any, version: int, **more: Any) -> Any:
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", version), helper.make_opsetid("own", 1)], **more
        )

    external = model(cnn, 13)
    for tensor in external.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="net.data")
    return {
        "cnn": model(cnn, 13),
        "old cnn": model(cnn, 9),
        "shapes": model(shapes, 13),
        "flow": model(flow, 13),
        "functions": model(functions, 17, functions=[function]),
        "recurrent": model(recurrent, 14),
        "external": external,
        **_fused(),
    }


def _fused() -> dict[str, Any]:
    """Files of fused operators, and of weights behind constant operators."""
    node, ms = helper.make_node, "com.microsoft"
    zeros = lambda name, *dims: numpy_helper.from_array(np.zeros(dims, np.float32), name)  # noqa: E731
    value = helper.make_tensor_value_info

    def model(nodes: list[Any], inputs: list[Any], weights: list[Any], version: int = 17) -> Any:
        graph = helper.make_graph(nodes, "net", inputs, [value("y", 1, None)], weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version), helper.make_opsetid(ms, 1)])

    block = [
        node("Attention", ["x", "w", "b"], ["a"], domain=ms, num_heads=2),
        node("SkipLayerNormalization", ["a", "x", "g", "g"], ["n"], domain=ms),
        node("MatMulNBits", ["n", "q", "s"], ["m"], domain=ms, K=8, N=8, bits=4, block_size=16),
        node("FastGelu", ["m", "g"], ["f"], domain=ms),
        node("MultiHeadAttention", ["f", "f", "f"], ["h"], domain=ms, num_heads=2),
        node("GroupQueryAttention", ["h", "h", "h", "", "", "i", "i"], ["y"], domain=ms, num_heads=2, kv_num_heads=2),
    ]
    packed = numpy_helper.from_array(np.zeros((8, 1, 8), np.uint8), "q")
    ints = numpy_helper.from_array(np.ones(1, np.int32), "i")
    weights = [zeros("w", 8, 24), zeros("b", 24), zeros("g", 8), zeros("s", 8), packed, ints]
    scaled = [
        node("ConstantOfShape", ["n"], ["filled"]),
        node("Mul", ["w", "s"], ["scaled"]),
        node("DequantizeLinear", ["k", "s"], ["d"], axis=0),
        node("Conv", ["x", "d"], ["c"]),
        node("GroupNormalization", ["c", "g", "g"], ["h"], num_groups=2),
        node("Einsum", ["h", "filled"], ["e"], equation="nchw,wk->nchk"),
        node("Attention", ["e", "e", "e"], ["a", "pk", "pv", "qk"]),
        node("Add", ["a", "scaled"], ["y"]),
    ]
    kernel = numpy_helper.from_array(np.zeros((4, 4, 3, 3), np.int8), "k")
    sizes = numpy_helper.from_array(np.array([6, 6]), "n")
    return {
        "fused": model(block, [value("x", 1, ["n", 4, 8])], weights),
        "quantised": model(
            scaled, [value("x", 1, [1, 4, 8, "?"])], [kernel, sizes, zeros("s", 4), zeros("g", 4), zeros("w", 6, 4)], 23
        ),
    }


def _cut(m: Any, r: random.Random) -> bytes:
    data = m.SerializeToString()
    return data[: r.randrange(len(data))]


def _bits(m: Any, r: random.Random) -> bytes:
    data = bytearray(m.SerializeToString())
    for _ in range(r.choice((1, 2, 8, 64))):
        data[r.randrange(len(data))] ^= 1 << r.randrange(8)
    return bytes(data)


def _overwrite(m: Any, r: random.Random) -> bytes:
    data = bytearray(m.SerializeToString())
    at = r.randrange(len(data))
    data[at : at + r.choice((1, 4, 16))] = r.randbytes(r.choice((0, 1, 4, 16)))
    return bytes(data)


def _circle(m: Any, r: random.Random) -> bytes:
    nodes = m.graph.node
    node, other = r.choice(nodes), r.choice(nodes)
    if node.input and other.output:
        node.input[r.randrange(len(node.input))] = r.choice(other.output)
    return m.SerializeToString()


_SIZES = (0, -1, 1, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63), 10**10)


def _absurd_shape(m: Any, r: random.Random) -> bytes:
    if r.random() < 0.5 or not m.graph.initializer:
        dims = r.choice(m.graph.input).type.tensor_type.shape.dim
        if dims:
            r.choice(dims).dim_value = r.choice(_SIZES)
    else:
        tensor = r.choice(m.graph.initializer)
        if tensor.dims:
            tensor.dims[r.randrange(len(tensor.dims))] = r.choice(_SIZES)
    return m.SerializeToString()


def _absurd_attribute(m: Any, r: random.Random) -> bytes:
    node = r.choice([n for n in m.graph.node if n.attribute] or list(m.graph.node))
    if node.attribute:
        a = r.choice(node.attribute)
        if a.ints:
            a.ints[r.randrange(len(a.ints))] = r.choice(_SIZES)
        elif a.type == onnx.AttributeProto.INT:
            a.i = r.choice(_SIZES)
        else:
            a.type = r.randrange(15)
    return m.SerializeToString()


def _elsewhere(m: Any, r: random.Random) -> bytes:
    if m.graph.initializer:
        tensor = r.choice(m.graph.initializer)
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        places = (
            "/etc/passwd",
            "../../../etc/shadow",
            "..",
            "",
            ".",
            "\0",
            "a" * 5000,
            "/dev/zero",
            "net.data/../../x",
            "sub/../net.data",
        )
        tensor.external_data.add(key="location", value=r.choice(places))
        tensor.external_data.add(key="length", value=str(10 * 2**30))
    return m.SerializeToString()


def _huge(m: Any, r: random.Random) -> bytes:
    if m.graph.initializer:
        tensor = r.choice(m.graph.initializer)
        del tensor.dims[:]
        tensor.dims.extend(r.choice(([2_500_000_000], [50_000, 50_000], [2**32, 2**32])))
    if r.random() < 0.5:
        m.graph.node.insert(0, helper.make_node("ConstantOfShape", ["hugely"], ["ten_gb"]))
        m.graph.initializer.append(_ints("hugely", 2_500_000_000))
        m.graph.node.append(helper.make_node("Expand", [m.graph.node[-1].output[0], "hugely"], ["unread"]))
    return m.SerializeToString()


def _exchange(m: Any, r: random.Random) -> bytes:
    kinds = [s.name for s in onnx.defs.get_all_schemas() if s.domain == ""]
    r.choice(m.graph.node).op_type = r.choice(kinds)
    if r.random() < 0.3:
        m.opset_import[0].version = r.choice((0, 1, 7, 9, 11, 13, 18, 21, 23, 99, -5, 2**40))
    return m.SerializeToString()


def _unplug(m: Any, r: random.Random) -> bytes:
    node = r.choice(m.graph.node)
    if node.input and r.random() < 0.7:
        del node.input[r.randrange(len(node.input)) :]
    elif node.output:
        del node.output[:]
    else:
        node.input.append("nobody")
    return m.SerializeToString()


def _itself(m: Any, r: random.Random) -> bytes:
    if m.functions:
        m.functions[0].node.append(helper.make_node("Block", ["b"], ["z"], domain="own"))
    else:
        m.graph.node.extend([m.graph.node[r.randrange(len(m.graph.node))]] * r.choice((1, 50)))
    return m.SerializeToString()


MUTATIONS: tuple[Callable[[Any, random.Random], bytes], ...] = (
    *(
        _cut,
        _bits,
        _overwrite,
        _circle,
        _absurd_shape,
        _absurd_attribute,
        _elsewhere,
        _huge,
        _exchange,
        _unplug,
        _itself,
    ),
)


def mutant(number: int) -> tuple[str, bytes]:
    """(what was done, file) number so-and-so; the same for the same number."""
    r = random.Random(f"mutant {number}")
    found = seeds()
    name = r.choice(sorted(found))
    mutation = MUTATIONS[number % len(MUTATIONS)]
    return f"{mutation.__name__.strip('_')} of {name}", mutation(found[name], r)


def judge(data: bytes, folder: Path) -> str:
    """Read a file in a process of its own.

    Returns:
        `graph`, `typed error`, or what went wrong.
    """
    (folder / "net.onnx").write_bytes(data)
    (folder / "net.data").write_bytes(bytes(4096))
    into, out = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(into)
        signal.alarm(SECONDS)
        allowed = str(folder.resolve())
        ours = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[1]), allowed)
        opened: list[str] = []

        def audit(event: str, arguments: Any) -> None:
            if (
                event == "open"
                and isinstance(arguments[0], str)
                and not os.path.realpath(arguments[0]).startswith(ours)
            ):
                opened.append(arguments[0])

        sys.addaudithook(audit)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            capture_onnx(folder / "net.onnx").macs  # noqa: B018
            answer = "graph"
        except NasplatError:
            answer = "typed error"
        except BaseException:
            answer = "untyped: " + traceback.format_exc()[-700:]
        if opened:
            answer = f"opened {opened[:3]}"
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if grown > BYTES:
            answer = f"took {grown / 2**20:.0f} MiB"
        os.write(out, answer.encode()[:4000])
        os._exit(0)
    os.close(out)
    with os.fdopen(into, "rb") as pipe:
        answer = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return (
            "ran longer than 5 s"
            if os.WTERMSIG(status) == signal.SIGALRM
            else f"killed by signal {os.WTERMSIG(status)}"
        )
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    start = time.time()
    with tempfile.TemporaryDirectory() as place:
        for number in range(arguments.first, arguments.first + arguments.n):
            what, data = mutant(number)
            answer = judge(data, Path(place))
            counts[answer if answer in {"graph", "typed error"} else "defect"] += 1
            if answer not in {"graph", "typed error"}:
                print(f"{number} ({what}): {answer}", flush=True)
    print(f"{arguments.n} files in {time.time() - start:.0f} s: {dict(counts)}")
    sys.exit(1 if counts["defect"] else 0)


if __name__ == "__main__":
    main()
