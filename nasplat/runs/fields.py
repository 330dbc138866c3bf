"""Fields of the settings of a run, read from the source: name, type, default, sentence, spelling on a command line.

The sentences are the strings below the fields, which no dataclass keeps, and the classes import torch. Parsed from
their files, they make the help of the command line, which shows at once.
"""

from __future__ import annotations

import ast
import functools
import inspect
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
SETTINGS = {"TrainConfig": "supernet/config.py", "Budget": "task/training.py"}
"""Files of the classes of settings that stand inside a run; a command line writes their fields behind a dot."""
KINDS = "runs/kinds.py"
"""File of the runs themselves."""
POSITIONAL = ("space", "network")
"""Fields that a command line takes by their place."""
SPELLED = {
    "presets": "--preset",
    "limits": "--limit",
    "architectures": "--architecture",
    "source": "--from",
    "shape": "--input",
}
"""Options that are not spelled as their field; those of a mapping or a list are repeated."""


@dataclass(frozen=True)
class Field:
    """One setting of a run as its source states it."""

    name: str
    """Name of the field in Python."""
    kind: str
    """Type as it is written, such as 'int | None'."""
    default: Any
    """Default where it is written as a plain value; None otherwise."""
    sentence: str
    """What the setting means."""

    @property
    def option(self) -> str:
        """Spelling on a command line, such as '--guide-at'."""
        return option(self.name)

    @property
    def is_positional(self) -> bool:
        """Whether a command line takes it by its place."""
        return self.name in POSITIONAL

    @property
    def is_flag(self) -> bool:
        """Whether it is switched on and off."""
        return self.kind == "bool"

    @property
    def is_repeated(self) -> bool:
        """Whether its option may be given several times, which adds up."""
        return self.kind.startswith("Mapping") or self.name == "architectures"

    @property
    def parts(self) -> tuple[Field, ...]:
        """Fields of a setting that is a class of settings itself; nothing for others."""
        return fields_of(self.kind) if self.kind in SETTINGS else ()


def option(name: str) -> str:
    """Return how a command line spells a field.

    Args:
        name: Name of the field.

    Returns:
        Option with its dashes.

    Example:
        >>> option("limits"), option("kernel_transforms")
        ('--limit', '--kernel-transforms')
    """
    return SPELLED.get(name, "--" + name.replace("_", "-"))


@functools.cache
def fields_of(kind: str) -> tuple[Field, ...]:
    """Read the fields of a class of settings from its file.

    Args:
        kind: Name of the class, such as 'SearchRun' or 'TrainConfig'.

    Returns:
        Fields in their order.

    Example:
        >>> [f.name for f in fields_of("DemoRun")]
        ['seed', 'fast']
        >>> fields_of("SearchRun")[0].sentence.split(",")[0]
        'Search space by name or path'
    """
    source = (PACKAGE / SETTINGS.get(kind, KINDS)).read_text(encoding="utf-8")
    body = next(n.body for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == kind)
    found = []
    for node, below in pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_text(below):
            assert isinstance(below, ast.Expr)
            sentence = " ".join(inspect.cleandoc(ast.literal_eval(below.value)).split())
            found.append(Field(node.target.id, ast.unparse(node.annotation), _plain(node.value), sentence))
    return tuple(found)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _plain(node: ast.expr | None) -> Any:
    """A default that is written as a number, text or truth value; None for those that are made."""
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
