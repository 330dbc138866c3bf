"""Whatever is wrong with a command's words, files, devices and numbers, it ends with one paragraph and code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import CELLS, TINY, presets, refused, run
from torch import nn

import nasplat
from nasplat.cli import cli
from nasplat.cli.failures import ended
from nasplat.cli.show import plain
from nasplat.errors import BuildError

pytestmark = pytest.mark.fast
CELL = "nasbench201:|none~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
SMALL = [*presets(CELLS), f"--task={TINY}"]
FILES = {
    "net.py": "from torch import nn\ndef net(): return nn.Conv2d(3, 4, 3)\ndef number(): return 5\n"
    "def raises():\n    raise KeyError('layer9')\ndef leaves(): raise SystemExit(0)\n",
    "leaving.py": "raise SystemExit(0)\n",
    "syntax.py": "def space(:\n",
    "empty": "",
    "table.csv": "architecture,decide\nx,1\n",
    "unknown.toml": 'space = "nasbench201"\ntrails = 3\n',
    "broken.toml": "space = \n",
    "broken.onnx": "\x08\x07garbage",
    "\x1b[31mred.csv": "a\n1\n",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with files that are not what commands expect."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    (tmp_path / "folder.onnx").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


NETWORKS = ["", ":", "nasbench201:", "nosuch:1", "net.py", "net.py:", "net.py:number", "net.py:raises", "net.py:leaves"]
NETWORKS += [
    "syntax.py:net",
    "leaving.py:net",
    "folder.onnx",
    "broken.onnx",
    "empty",
    "bytes",
    "{",
    "[]",
    "\0",
    "timm:no",
]
BAD: list[list[str]] = [
    *([verb, network] for verb in ("inspect", "score") for network in NETWORKS),
    *(["inspect", "net.py:net", "--input", shape] for shape in ("", "1,a", "0,3,8,8", "-1,3,8,8", "1,3", "1" + "0" * 30)),
    ["inspect", CELL, "--depth=0"],
    ["inspect", CELL, "--drawing=empty/x.svg"],
    ["inspect", CELL, "--drawing=folder.onnx"],
    ["measure", CELL, "--runtime=steam"],
    ["measure", CELL, "--device=meta"],
    ["measure", CELL, "--precision=float2"],
    ["measure"],
    ["sample", "nasbench201", "-n", "many"],
    ["sample", "nasbench201", "--uniform=no"],
    ["sample", "nasbench201", "--limit=macs=nan"],
    ["sample", "nasbench201", "--limit=foo=3"],
    ["sample", "nasbench201", "--preset=width=null"],
    ["sample", "ofa_mobilenetv3", "--preset=resolutions=64"],
    ["sample", "vit", "--preset=size=huge"],
    ["score", CELL, "--predictor=folder.onnx"],
    ["score", CELL, "--calibrate=table.csv"],
    ["fit", "--table=table.csv", "--space=nasbench201", "--metric=decide", "--out=a\0b"],
    ["fit", "--table=bytes", "--space=nasbench201", "--metric=decide", "--out=o"],
    ["evaluate", "trees-nb201", "--table=empty", "--space=nasbench201", "--metric=decide"],
    ["evaluate", "trees-nb201", "--table=table.csv", "--space=nasbench201", "--metric=decide", "--rows=0"],
    *(["train", "nasbench201", *SMALL, "--out=o", word] for word in (
        "--train.epochs=0", "--train.lr=nan", "--train.batch-size=0", "--seed=x", "--device=cuda:99", "--device=meta",
        "--teacher=folder.onnx", "--from=folder.onnx", "--config=broken.toml", "--config=unknown.toml",
        "--config=folder.onnx", "--bogus", "--trian.epochs=1", "extra", "--out=empty", "--out=empty/x",
    )),
    *(["train", "nasbench201", f"--task=digits-clutter?{word}", "--out=o"] for word in ("train=-1", "seed=x", "train=.5")),
    *(["search", "nasbench201", *SMALL, "--maximize=trained", "--guide=none", "--out=o", word] for word in (
        "--trials=-1", "--trials=nan", "--trials=2.5", "--maximize=beauty", "--guide=folder.onnx", "--limit=macs",
        "--limit=macs=0", "--budget.epochs=0", "--storage=/nowhere/a.journal", "--storage=folder.onnx", "--stages=x",
        "--workers=0", "--supernet=folder.onnx", "--limt=macs=3", "-x",
    )),
    *(["label", "nasbench201", *SMALL, "--n=1", "--out=o.csv", word] for word in (
        "--n=0", "--seeds=0", "--architecture={", "--architectures=empty", "--architectures=bytes", "--bogus=1",
        "--budget.lr=inf", "--out=empty/x.csv",
    )),
    *(["improve", "net.py:net", "--shape=1,3,8,8", "--out=o", word] for word in (
        "--cut=macs=2", "--cut=beauty=.1", "--rounds=0", "--keep=nan", "--predictor=no", "--shape=1,3", "--bogus",
    )),
    ["export", CELL, "folder.onnx"],
    ["export", CELL, "net.txt"],
    ["export", CELL, "nowhere.onnx", "--check"],
    ["report", "folder.onnx"],
    ["report", "empty"],
    ["replay", "folder.onnx"],
    ["demo", "--scale=x"],
    ["demo", "--out=empty"],
    ["spaces", "--bogus"],
    ["doctor", "extra"],
    ["dance"],
]  # fmt: skip


@pytest.mark.parametrize(
    "words", BAD, ids=lambda words: " ".join(w for w in words if w not in SMALL)[:70].replace("\0", "0")
)
def test_a_command_that_cannot_be_carried_out_says_so_in_one_paragraph_and_leaves_nothing(
    words: list[str], here: Path
) -> None:
    before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    said = refused(*words)
    assert "defect" not in said
    assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file() and "__pycache__" not in p.parts} == before


def test_every_verb_refuses_an_option_that_it_does_not_know(here: Path) -> None:
    for verb in cli.commands:
        assert "--bogus" in refused(
            verb, "--bogus", *(["--out=o"] if verb in {"search", "train", "improve", "label"} else [])
        )
    assert not (here / "o").exists()


def raising(error: BaseException) -> Callable[[], object]:
    def run() -> object:
        raise error

    return run


def test_an_interrupt_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(raising(KeyboardInterrupt()), ["train", "my space"], debug=False) == 130
    assert "nasplat train 'my space'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), ["MemoryError\n  There is not enough memory"]),
        (torch.OutOfMemoryError("CUDA out of memory."), ["OutOfMemoryError: CUDA out of memory.\n", "smaller batches"]),
        (RecursionError("too deep"), ["RecursionError: too deep\n", "nested too deeply"]),
        (PermissionError(13, "Permission denied", "x"), ["PermissionError: [Errno 13] Permission denied: 'x'"]),
        (RuntimeError("a\n\n\nb " + "long " * 500), ["RuntimeError: a b long", " …\n", "line ", "test_failures.py"]),
        (SystemExit(0), ["ended Python with 0", "line ", "test_failures.py"]),
    ],
)
def test_errors_that_are_not_ours_are_told_with_who_raised_them(
    error: BaseException, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(raising(error), ["score", "x"], debug=False) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert len(said) < 1200
    with pytest.raises(type(error)):
        ended(raising(error), ["score", "x"], debug=True)


def test_an_error_of_a_library_names_it_and_one_of_our_files_is_a_defect(capsys: pytest.CaptureFixture[str]) -> None:
    # what torch raises is raised inside nasplat's call, which here is this file's
    def ours() -> object:
        return plain(None)  # type: ignore[arg-type]

    assert ended(ours, ["score", "x"], debug=False) == 2
    assert (
        "This is a defect of nasplat: please report it with what this prints: nasplat --debug score x"
        in capsys.readouterr().err
    )
    assert ended(lambda: nn.Linear(2, 2)(torch.zeros(1, 3)), ["score"], debug=False) == 2
    assert "test_failures.py" in capsys.readouterr().err


def test_output_that_nobody_reads_ends_a_command_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turned: list[int] = []
    monkeypatch.setattr(os, "dup2", lambda _, to: turned.append(to))
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    assert ended(raising(BrokenPipeError(32, "Broken pipe")), ["spaces"], debug=False) == 1
    assert len(turned) == 1
    assert capsys.readouterr().err == ""


def test_what_steers_a_terminal_is_shown_and_not_obeyed(here: Path) -> None:
    said = refused("fit", "--table=\x1b[31mred.csv", "--space=nasbench201", "--metric=\x07\u202eb", "--out=o")
    assert "\x1b" not in said
    assert "\\x1b[31mred.csv" in said
    (here / "classes.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.parts = nn.ModuleDict({'[/red]\\x1b[2J': nn.Linear(4, 4)})\n"
        "    def forward(self, x): return self.parts['[/red]\\x1b[2J'](x)\ndef net(): return Net()\n",
        encoding="utf-8",
    )
    shown = run("inspect", "classes.py:net", "--input=1,4", "--nodes")
    assert "\x1b" not in shown
    assert "[/red]\\x1b[2J" in shown


def test_a_build_function_that_raises_names_its_line_and_presets() -> None:
    with pytest.raises(BuildError, match=r"(?s)Space\(vit, size='huge'\) raised KeyError: 'huge' \(.*vit\.py:\d+\)"):
        nasplat.load_space("vit", size="huge").sample()
