"""What reading ONNX files gets right: ONNX's own test models, and real files out of a folder.

Nothing is downloaded. Without arguments it reads the models that come with the installed `onnx` package (its test cases of
single operators, converted torch operators, whole networks with weights filled in), each in a process of its own, runs each
in ONNX Runtime on the inputs beside it, and compares the shapes of the outputs.

With a folder it reads every ONNX file below it, at the sizes in `SIZES` where the file leaves sizes open. Beside our
MACs stand independent ones: every tensor of the file becomes an output, ONNX Runtime runs it without optimisations, and
the shapes it gives enter the textbook formula of each layer; files with subgraphs or fused operators have no such truth. A last column
counts the elements of all tensors of floats or bytes in the file, an upper bound of its parameters.

    python benchmarks/bench_onnx_files.py
    python benchmarks/bench_onnx_files.py FOLDER
"""

from __future__ import annotations

import argparse
import csv
import gc
import os
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

from nasplat.errors import NasplatError
from nasplat.frontends import capture_onnx
from nasplat.graph import Graph

RESULTS = Path(__file__).parent / "results"
SECONDS = 60
FILES = ("file", "sizes", "macs", "truth", "params", "elements", "unknown", "error")
"""Columns of the results of a folder."""
TESTS = (
    "suite",
    "models",
    "graphs",
    "typed errors",
    "crashes",
    "exact",
    "inexact",
    "ran",
    "equal shapes",
    "other shapes",
)
"""Columns of the results of ONNX's own models."""
SIZES: dict[str, tuple[Any, ...]] = {
    "icassp_2022/nmp.onnx": (1, 43844, 1),
    "ddddocr/common.onnx": (1, 1, 64, 160),
    "ddddocr/common_old.onnx": (1, 1, 64, 160),
    "ddddocr/common_det.onnx": (1, 3, 416, 416),
    "standard_v3_3/model.onnx": (1, 2048),
    "nudenet/320n.onnx": (1, 3, 320, 320),
    "data/smart-turn-v3.2-cpu.onnx": (1, 80, 800),
    "models/ch_PP-OCRv4_det_infer.onnx": (1, 3, 640, 640),
    "models/ch_PP-OCRv4_rec_infer.onnx": (1, 3, 48, 320),
    "models/ch_ppocr_mobile_v2.0_cls_infer.onnx": (1, 3, 48, 192),
    "data/silero_vad.onnx": ((1, 576), (2, 1, 128), ()),
    "data/silero_vad_16k_op15.onnx": ((1, 576), (2, 1, 128), ()),
    "data/silero_vad_16k_sequence.onnx": ((16, 576), (1, 1, 128), (1, 1, 128)),
    "data/silero_vad_half.onnx": ((1, 576), (2, 1, 128)),
    "data/silero_vad_op18_ifless.onnx": ((1, 576), (), (2, 1, 128)),
    "dnsmos_models/model_v8.onnx": (1, 900, 120),
    "plcmos_models/plcmos_v2.onnx": ((1, 1, 500, 257), (1, 64)),
    "swift_f0/model.onnx": ((1, 16000), (), ()),
    **{f"aecmos_models/Run_{n}_Stage_0.onnx": (1, 3, 500, 160) for n in (1663829550, 1663915512, 1668423760)},
}
"""Sizes of the inputs of files of published packages, as the packages use them."""


def session(model: str | bytes | Path, optimised: bool = True) -> onnxruntime.InferenceSession:
    """A file in ONNX Runtime, on one thread, silent."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def apart(*works: Any) -> list[str]:
    """The answers of functions, run one after another in a process of their own until one fails."""
    into, out = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(into)
        signal.alarm(SECONDS)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for work in works:
            try:
                answer, failed = work(), False
            except NasplatError as err:
                answer, failed = f"typed: {str(err).splitlines()[0]}", True
            except BaseException as err:
                answer, failed = f"untyped: {type(err).__name__}: {err}", True
            os.write(out, answer.replace("\n", " ").encode("utf-8", "replace")[:2000] + b"\n")
            if failed:
                break
        os._exit(0)
    os.close(out)
    with os.fdopen(into, "rb") as pipe:
        answers = pipe.read().decode("utf-8", "replace").splitlines()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        answers.append(f"killed by signal {os.WTERMSIG(status)}")
    return answers + [""] * (len(works) - len(answers))


# -- ONNX's own models -------------------------------------------------------------------------------------------------


def cases() -> Iterator[tuple[str, str, Any, list[Any]]]:
    """ONNX's own models as (suite, name, model, inputs); inputs are None where they are no tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = collect_testcases(None)
    gc.freeze()  # so that the collector of a child copies no pages
    for case in made:
        if case.model is not None and case.data_sets:
            yield "node", case.name, case.model, list(case.data_sets[0][0])
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for path in sorted(data.rglob("*.onnx")):
        model = onnx.load(path)
        folder = path.parent / "test_data_set_0"
        suite, name = path.relative_to(data).parts[0], path.parent.name if folder.exists() else path.stem
        yield (
            suite,
            name,
            model,
            [recorded(p) for p in sorted(folder.glob("input_*.pb"), key=lambda p: int(p.stem[6:]))],
        )


def recorded(path: Path) -> Any:
    """A recorded input; None for one that is no tensor."""
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(tensor)
    except Exception:  # a sequence or an optional value
        return None


def read_one(path: Path) -> str:
    """How reading one of ONNX's models went: `bound|shapes of its outputs`."""
    graph = capture_onnx(path)
    return f"{graph.cost.bound or '='}|{[n.shape for n in graph.nodes if n.op == 'output']}"


def run_one(path: Path, inputs: list[Any]) -> str:
    """The shapes of the outputs of one of ONNX's models in ONNX Runtime."""
    ready = session(path)
    told = ready.get_inputs()
    if not inputs:
        inputs = [np.ones([d if isinstance(d, int) else 1 for d in i.shape], np.float32) for i in told]
    if any(not isinstance(v, np.ndarray) for v in inputs):
        return "no tensors"
    made = ready.run(None, {i.name: v for i, v in zip(told, inputs, strict=False)})
    return str([np.shape(m) if isinstance(m, np.ndarray) else () for m in made])


def tests(verbose: bool) -> None:
    """Read and run ONNX's own models."""
    counts: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "net.onnx"
        for suite, name, model, inputs in cases():
            count = counts.setdefault(suite, Counter())
            path.write_bytes(model.SerializeToString())
            count["models"] += 1
            ours, really = apart(lambda: read_one(path), lambda inputs=inputs: run_one(path, inputs))
            kind = (
                "typed errors" if ours.startswith("typed") else "graphs" if ours[:1] in "=≥≤≈" and ours else "crashes"
            )
            count[kind] += 1
            if kind != "graphs":
                if kind == "crashes" or verbose:
                    print(f"{suite}/{name}: {ours}", flush=True)
                continue
            bound, _, shapes = ours.partition("|")
            count["exact" if bound == "=" else "inexact"] += 1
            if not really.startswith("["):
                continue
            count["ran"] += 1
            is_equal = really == shapes
            count["equal shapes" if is_equal else "other shapes"] += 1
            if not is_equal and (verbose or bound == "="):
                print(f"{suite}/{name} {bound}: {shapes}, really {really}", flush=True)
            elif verbose and bound != "=":
                print(f"{suite}/{name} {bound}: {shapes}", flush=True)
    _write("onnx_tests.csv", TESTS, [[suite, *(count[c] for c in TESTS[1:])] for suite, count in counts.items()])


# -- real files --------------------------------------------------------------------------------------------------------


def layers(model: Any) -> Iterator[Any]:
    """Nodes that multiply."""
    for node in model.graph.node:
        if node.op_type in {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "ConvInteger", "MatMulInteger"}:
            yield node


def textbook(node: Any, shape: dict[str, tuple[int, ...]]) -> int:
    """Multiply-accumulates of a layer by its formula, from the shapes that ONNX Runtime gave."""
    a = {x.name: helper.get_attribute_value(x) for x in node.attribute}
    first, second, out = shape[node.input[0]], shape[node.input[1]], shape[node.output[0]]
    if node.op_type in {"Conv", "ConvInteger"}:
        return prod(out) * prod(second[1:])
    if node.op_type == "ConvTranspose":
        return prod(first) * prod(second[1:])
    if node.op_type == "Gemm":
        return prod(out) * (first[0] if a.get("transA") else first[1])
    if node.op_type in {"MatMul", "MatMulInteger"}:
        return prod(out) * first[-1]
    return prod(first[:2]) * (prod(second) + prod(shape[node.input[2]]))


def truth(path: Path, feed: dict[str, np.ndarray]) -> int | None:
    """Multiply-accumulates from the shapes that ONNX Runtime gives all tensors; None where it cannot."""
    model = onnx.load(path)
    if any(a.HasField("g") for n in model.graph.node for a in n.attribute):
        return None
    if any(n.domain not in {"", "ai.onnx"} for n in model.graph.node):
        return None
    wanted = {n for node in layers(model) for n in [*node.input[:3], node.output[0] or node.output[-1]] if n}
    held = {t.name: tuple(t.dims) for t in model.graph.initializer}
    have = {o.name for o in model.graph.output} | set(held) | set(feed)
    model.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in sorted(wanted - have))
    with tempfile.TemporaryDirectory() as place:
        onnx.save(model, f"{place}/all.onnx")
        ready = session(f"{place}/all.onnx", optimised=False)
        names = [o.name for o in ready.get_outputs()]
        shape = {n: np.asarray(v).shape for n, v in zip(names, ready.run(None, feed), strict=True)}
    shape |= held | {n: v.shape for n, v in feed.items()}
    return sum(textbook(node, shape) for node in layers(model))


def elements(path: Path) -> int:
    """Elements of all tensors of floats or bytes in a file."""
    model = onnx.load(path, load_external_data=False)
    found, graphs = 0, [model.graph, *model.functions]
    while graphs:
        graph = graphs.pop()
        tensors = list(getattr(graph, "initializer", ()))
        for node in graph.node:
            tensors += [a.t for a in node.attribute if a.HasField("t")]
            graphs += [a.g for a in node.attribute if a.HasField("g")]
        found += sum(prod(t.dims) for t in tensors if t.data_type in {1, 2, 3, 10, 11, 16, 21, 22})
    return found


def values(path: Path, graph: Graph) -> dict[str, np.ndarray]:
    """Values for the inputs of a file, of the sizes that the graph has."""
    shapes = [n.shape for n in graph.nodes if n.op == "input"]
    feed = {}
    for told, shape in zip(session(path).get_inputs(), shapes, strict=True):
        kind = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}.get(
            told.type, "int32"
        )
        feed[told.name] = np.full(shape, 16000 if told.name == "sr" else 1, kind)
    return feed


def row(path: Path) -> list[Any]:
    """One row of the table."""
    name = f"{path.parent.name}/{path.name}"
    sizes = SIZES.get(name)
    try:
        graph = capture_onnx(path, sizes)
    except NasplatError as err:
        return [name, sizes or "", "", "", "", "", "", str(err).splitlines()[0]]
    shapes = " ".join("x".join(map(str, n.shape)) for n in graph.nodes if n.op == "input")
    try:
        real = truth(path, values(path, graph))
    except Exception as err:
        real = None
        print(f"{path.name}: ONNX Runtime: {str(err).splitlines()[0][:160]}", flush=True)
    known = [name, shapes, f"{graph.cost.bound}{graph.macs}", "" if real is None else real]
    return [*known, graph.params, elements(path), " ".join(graph.unknown_ops), "; ".join(graph.notes[:2])]


def files(folder: Path) -> None:
    """Read every ONNX file below a folder."""
    rows = []
    for path in sorted(folder.rglob("*.onnx")):
        rows.append(row(path))
        print(*rows[-1], sep=" | ", flush=True)
    _write("onnx_files.csv", FILES, rows)


def _write(name: str, columns: tuple[str, ...], rows: list[list[Any]]) -> None:
    """Keep rows and print them."""
    with (RESULTS / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])
    for line in [columns, *rows]:
        print(" | ".join(map(str, line)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--verbose", action="store_true", help="print typed errors, and shapes that are bounds")
    arguments = parser.parse_args()
    if arguments.folder is None:
        tests(arguments.verbose)
    else:
        files(arguments.folder)


if __name__ == "__main__":
    sys.exit(main())
