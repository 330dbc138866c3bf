"""Journals, run folders and checkpoints that were torn, altered or made by somebody else."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

from hostile_input import Hostile, text

import nasplat
from nasplat.runs.folder import RunFolder
from nasplat.study.storage import open_storage
from nasplat.supernet.checkpoint import read_checkpoint
from nasplat.tables.rows import RowFile

CREATED = b'{"op_code":0,"worker_id":"a","study_name":"nasplat","directions":[2]}\n'
ABOUT = {"verb": "search", "settings": {"space": "nasbench201{}"}, "command": "nasplat search", "words": ["search"]}


def journal(content: bytes, refused: str = "", value: object = None) -> Hostile:
    def studies(file: Path) -> list[str]:
        return [s.study_name for s in open_storage(str(file)).get_all_studies()]

    return Hostile(text("study.journal", content), studies, refused, value)


def rows(content: bytes, refused: str = "", value: object = None) -> Hostile:
    return Hostile(
        text("rows.csv", content), lambda file: list(RowFile(file, ["key", "value"], "key").rows()), refused, value
    )


def run_folder(content: str | bytes, refused: str, name: str = "run.json") -> Hostile:
    def make(folder: Path) -> Path:
        text("run.json", json.dumps(ABOUT))(folder)
        text("study.journal", CREATED)(folder)
        text(name, content)(folder)
        return folder

    return Hostile(make, nasplat.write_report, refused)


def described(folder: Path) -> str:
    RunFolder(folder).describe(nasplat.SearchRun("nasbench201"))
    return ""


def checkpoint(header: object, data: bytes = b"", length: int | None = None) -> Callable[[Path], Path]:
    """A safetensors file by hand: its header says anything."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return text("supernet.safetensors", struct.pack("<Q", len(head) if length is None else length) + head + data)


def tensor(shape: list[int], end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}


HOSTILE = {
    "journal with a torn last line": journal(CREATED + b'{"op_code":8,"wor', value=["nasplat"]),
    "journal that ends in zeros": journal(CREATED + b"\0" * 40, value=["nasplat"]),
    "journal with two records glued": journal(
        CREATED + b'{"op_code":8,"wor' + CREATED, r"line 2 of the journal .*study\.journal"
    ),
    "journal with a number": journal(CREATED + b"5\n", "line 2 of the journal"),
    "journal with an unknown operation": journal(b'{"op_code":99,"worker_id":"a"}\n', "line 1 of the journal"),
    "journal with half a record": journal(b'{"op_code":0,"worker_id":"a"}\n', "line 1 .* no record .*KeyError"),
    "journal nested without end": journal(CREATED + b"[" * 20_000 + b"\n", "line 2 of the journal"),
    "journal of bytes": journal(bytes(range(256)) + b"\n", "line 1 of the journal"),
    "rows with a torn last one": rows(b'key,value\na,1\nb,"2', value=["a"]),
    "rows with a quote too few": rows(b'key,value\na,"x\nb,"y"\n', "line 3 .* is broken"),
    "rows with a cell too few": rows(b"key,value\na\nb,2\n", "line 2 .* expected 2 cells, got 1"),
    "rows that are no text": rows(b"key,value\n\xff\xfe,1\n", "line 2 .* no UTF-8"),
    "run of nothing": run_folder("", r"expected JSON in .*run\.json"),
    "run of a list": run_folder("[]", r"expected an object in .*run\.json"),
    "run without settings": run_folder('{"verb": "search", "settings": null}', r"description of a run in .*run\.json"),
    "run nested without end": run_folder("[" * 100_000, r"expected JSON in .*run\.json"),
    "run with a verb of bytes": run_folder(b'{"verb": "\xff"}', r"expected JSON in .*run\.json"),
    "run with a broken choice": run_folder('{"architecture": 3}', r"chosen network in .*chosen\.json", "chosen.json"),
    "run with a certificate of nothing": run_folder("{}", "expected a certificate", "best.certificate.json"),
    "run with pictures from elsewhere": run_folder(
        '{"network": "x", "examples": [{"pictures": [{"file": "../run.json", "caption": ""}]}]}',
        "'../run.json' is no picture of the run",
        "pictures/pictures.json",
    ),
    "run with a table without rows": run_folder("a,b\n", r"front\.csv", "front.csv"),
    "run of another verb": Hostile(
        lambda folder: RunFolder(folder).describe(nasplat.TrainRun("nasbench201")) or folder,
        described,
        "holds a train, got a search",
    ),
    "checkpoint of nothing": Hostile(text("supernet.safetensors", b""), read_checkpoint, "expected a supernet checkpoint"),
    "checkpoint with a header beyond its end": Hostile(
        checkpoint({}, length=1 << 60), read_checkpoint, "expected a supernet checkpoint"
    ),
    "checkpoint with a header that is no JSON": Hostile(
        checkpoint(b"{" * 64), read_checkpoint, "expected a supernet checkpoint"
    ),
    "checkpoint with a tensor beyond its end": Hostile(
        checkpoint({"weight/a": tensor([1 << 40], 1 << 42)}), read_checkpoint, "expected a supernet checkpoint"
    ),
    "checkpoint with a tensor of another size": Hostile(
        checkpoint({"weight/a": tensor([2, 2], 8)}, b"\0" * 8), read_checkpoint, "expected a supernet checkpoint"
    ),
    "checkpoint with another hash": Hostile(
        checkpoint({"__metadata__": {"sha256": "0" * 64}, "weight/a": tensor([2], 8)}, b"\0" * 8),
        read_checkpoint,
        "is not as it was written",
    ),
}  # fmt: skip
