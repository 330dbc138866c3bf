"""Fuzzing of the ONNX reader that is driven by coverage: broken files give a graph or a typed error.

Atheris (libFuzzer) watches which branches of the reader a file reaches, and keeps the files that reach new ones. Half of
the mutations are libFuzzer's own on bytes, the other half those of `fuzz_onnx.py` on the model in the file. It starts from
that script's files. An error that is not ours, a crash, more than 60 s or more than 4 GiB for one file end it; the file is
kept under the name that libFuzzer prints.

Atheris is an optional tool of developers, no dependency: `pip install --target FOLDER atheris`, then

    PYTHONPATH=FOLDER python benchmarks/fuzz_onnx_coverage.py --seconds 1800 --corpus FOLDER/corpus
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

import onnx

try:
    import atheris
except ImportError:
    sys.exit("Atheris is not here: pip install --target FOLDER atheris, then PYTHONPATH=FOLDER python ...")

READER = (
    "attention",
    "file",
    "inputs",
    "lowering",
    "names",
    "ops",
    "patterns",
    "reader",
    "shapes",
    "tensors",
    "writer",
)
with atheris.instrument_imports(include=[f"nasplat.frontends.onnx_{name}" for name in READER]):
    from nasplat.frontends import capture_onnx

from fuzz_onnx import MUTATIONS, seeds  # noqa: E402

from nasplat.errors import NasplatError  # noqa: E402

LARGEST = 1 << 16
"""Bytes of the largest file that is tried."""


def mutate(data: bytes, size: int, seed: int) -> bytes:
    """A mutation on bytes, or on the model in them."""
    r = random.Random(seed)
    if r.random() < 0.5:
        model = onnx.ModelProto()
        try:
            model.ParseFromString(data)
            changed = r.choice(MUTATIONS)(model, r)
        except Exception:  # bytes that hold no model, or one without what this mutation changes
            changed = b""
        if 0 < len(changed) <= size:
            return changed
    return atheris.Mutate(data, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, default=None, help="folder of files to start from, and to keep")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        corpus = arguments.corpus or Path(place) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for name, model in seeds().items():
            (corpus / f"seed {name}").write_bytes(model.SerializeToString())
        path = Path(place) / "net.onnx"
        path.with_suffix(".data").write_bytes(bytes(4096))

        def judge(data: bytes) -> None:
            path.write_bytes(data)
            try:
                graph = capture_onnx(path)
                graph.cost, repr(graph)
            except NasplatError:
                pass

        limits = (f"-max_total_time={arguments.seconds}", "-timeout=60", "-rss_limit_mb=4096", f"-max_len={LARGEST}")
        atheris.Setup([sys.argv[0], str(corpus), *limits], judge, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
