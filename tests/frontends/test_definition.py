"""A definition's digest follows what code computes, and nothing else."""

from __future__ import annotations

import linecache
from typing import Any

import pytest
import torch

from nasplat.frontends.definition import Definition, definition_of, state_of
from nasplat.frontends.source import source_of

pytestmark = pytest.mark.fast

CELL = """
import dataclasses, enum, functools, typing
from torch import nn
KERNEL = 3
OPTIONS = [4, 8]
@dataclasses.dataclass(frozen=True)
class Size:
    depth: int = 2
    extra: list = dataclasses.field(default_factory=list)
class Kind(enum.Enum):
    A = 1
    B = 2
    def scaled(self): return self.value * 6
class Pair(typing.NamedTuple):
    first: int = 5
@functools.cache
def kept(x): return x * 10
def helper(width): return nn.Conv2d(3, width, KERNEL)
class Part(nn.Module):
    share = 0.25
    def __init__(self, width):
        super().__init__()
        self.conv = helper(width)
    @staticmethod
    def plain(x): return x + 11
    @property
    def name(self): return 12
    def forward(self, x):
        return self.conv(x).relu()
SIZE = Size()
def build(pick, width=8):
    def inner(z):
        return [z for _ in range(13)]
    chosen = (SIZE.depth, Kind.A.scaled(), Pair(), kept(3), functools.partial(inner, 14))
    return Part(pick("width", OPTIONS)), chosen
"""
"""Code as in a notebook's cell, of which every test below changes one word."""
COUNT = iter(range(10_000))


def run(text: str, scope: dict[str, Any] | None = None, has_source: bool = True) -> dict[str, Any]:
    """Run a text as a notebook runs a cell, and return its globals."""
    scope = {"__name__": "__main__"} if scope is None else scope
    name = f"<cell {next(COUNT)}>"
    if has_source:
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), scope)
    return scope


def digest(text: str, **how: Any) -> str:
    return Definition(run(text, **how)["build"]).digest


def test_what_a_reader_sees_and_a_computer_does_not_changes_nothing() -> None:
    told = CELL.replace(
        "def build(pick, width=8):", 'def build(pick, width: int = 8) -> object:\n    """Told."""\n    # so'
    )
    assert digest(CELL) == digest(CELL) == digest("# a comment\n\n" + told)
    assert digest(CELL) == digest(CELL.replace("def build(", "def other(") + "build = other\n")


@pytest.mark.parametrize(
    "change",
    [
        *("KERNEL = 3>KERNEL = 7", "[4, 8]>[4, 8, 16]", "[4, 8]>[8, 4]", "depth: int = 2>depth: int = 3"),
        *("factory=list>factory=dict", "A = 1>A = 9", "value * 6>value * 7", "first: int = 5>first: int = 6"),
        *("x * 10>x * 9", "nn.Conv2d>nn.ConvTranspose2d", "share = 0.25>share = 0.5", "x + 11>x + 12"),
        *("return 12>return 13", "relu()>sigmoid()", "SIZE = Size()>SIZE = Size(4)", "width=8>width=9"),
        *("range(13)>range(12)", "inner, 14>inner, 15", "Kind.A.>Kind.B.", "class Part(nn.Module)>class Part(nn.ReLU)"),
    ],
)
def test_a_change_of_anything_that_is_reached_is_seen(change: str) -> None:
    old, new = change.split(">", 1)
    assert CELL.count(old) == 1
    assert digest(CELL.replace(old, new)) != digest(CELL)


@pytest.mark.parametrize("change", ["KERNEL = 3>KERNEL = 7", "relu()>sigmoid()", "range(13)>range(12)"])
def test_code_without_source_is_told_apart_by_its_byte_code(change: str) -> None:
    assert digest(CELL, has_source=False) == digest(CELL, has_source=False)
    assert digest(CELL.replace(*change.split(">", 1)), has_source=False) != digest(CELL, has_source=False)


def test_a_helper_that_is_defined_anew_changes_the_digest_of_what_calls_it() -> None:
    scope = run(CELL)
    found = definition_of(scope["build"])
    first = found.digest
    run("KERNEL = 5", scope)
    second = found.digest
    run("KERNEL = 3", scope)
    assert second != first == found.digest
    scope["OPTIONS"].append(16)
    assert found.digest != first
    scope["OPTIONS"].pop()
    scope["Part"].forward = lambda self, x: x
    assert found.digest != first


def test_closures_and_two_lambdas_of_one_line_differ() -> None:
    def scaled(kernel: int) -> Any:
        return lambda x: x * kernel

    add, subtract = (lambda x: x + 1), (lambda x: x - 1)
    assert Definition(scaled(3)) == Definition(scaled(3)) != Definition(scaled(7))
    assert source_of(add) is not None
    assert Definition(add) != Definition(subtract)


def test_results_that_code_remembers_in_a_global_are_no_part_of_it() -> None:
    scope = run("KEPT = {}\ndef build(pick):\n    KEPT[3] = 4\n    return KEPT\n")
    before = definition_of(scope["build"]).digest
    scope["build"](None)
    assert definition_of(scope["build"]).digest == before


def test_source_that_was_edited_under_running_code_is_not_believed() -> None:
    scope = run(CELL)
    name = scope["build"].__code__.co_filename
    before = Definition(scope["build"]).digest
    edited = CELL.replace("range(13)", "range(14)")
    linecache.cache[name] = (len(edited), None, edited.splitlines(True), name)
    assert source_of(scope["build"]) is None
    assert Definition(scope["build"]).digest not in {before, digest(edited)}


def test_installed_code_counts_by_its_name_and_tensors_by_their_values() -> None:
    assert state_of(torch.nn.Conv2d) == "" == state_of(3)
    assert Definition(torch.nn.ReLU) != Definition(torch.nn.GELU)
    assert Definition(torch.zeros(2)) != Definition(torch.ones(2))
    assert Definition([1, (2, 3)]) == Definition((1, [2, 3])) != Definition([1, 2, 3])
    assert Definition({1, 2, 3}) == Definition({3, 2, 1})


def test_an_object_that_cannot_be_looked_at_is_known_by_its_type() -> None:
    class Shy:
        def __getattribute__(self, name: str) -> Any:
            raise OSError(name)

    assert len(Definition(Shy()).digest) == 16


def test_every_process_machine_and_version_of_python_finds_the_same_digest() -> None:
    assert digest(CELL) == "f7ab870f3e7e300c"  # found by CPython 3.11, 3.12 and 3.13
