"""Write docs/reference.md: every public name with the first sentence of its docstring and its signature.

    python docs/make_reference.py

`tests/test_face.py` fails when the page is older than the code.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

import nasplat

PAGE = Path(__file__).with_name("reference.md")
GROUPS = {
    "Networks and graphs": ("frontends", "graph", "editing"),
    "Search spaces": ("searchspace",),
    "Prediction": ("predict", "learners", "features"),
    "Tables and tasks": ("tables", "task"),
    "Latency and proxies": ("probes",),
    "Search": ("study",),
    "Supernets": ("supernet",),
    "What a string names": ("inputs",),
    "Verbs": ("workflows",),
    "Runs and reports": ("runs",),
    "Checks and errors": ("testing", "errors"),
}
"""Headings of the page, each with the rooms whose public names stand below it."""


ALIASES = {"Option": "What a choice may offer: a number, a text or a truth value."}
"""Names that stand for types, which have no docstring of their own."""


def first_sentence(thing: object) -> str:
    """Return the first paragraph of a docstring as one line; of a tuple, what it holds."""
    if isinstance(thing, tuple):
        return f"{', '.join(map(repr, thing))}."
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def signature(name: str, thing: object) -> str:
    """Return a call with the names of its parameters, those with defaults after a star where only a name will do."""
    if getattr(thing, "_is_protocol", False):
        return name
    try:
        parameters = inspect.signature(thing).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return name
    words, starred = [], False
    for p in parameters:
        if p.kind is p.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        starred = starred or p.kind is p.VAR_POSITIONAL
        words.append({p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + p.name)
    return f"{name}({', '.join(words)})"


def page() -> str:
    """Return the text of the page."""
    stub = Path(nasplat.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    homes = {name: room for room, name in re.findall(r"^from \.(\w+)[\w.]* import (\w+) as", stub, re.M)}
    lines = [
        "# Public names",
        "",
        "Everything here is imported from `nasplat`; parts of networks come from `nasplat.blocks`.",
        "`help(nasplat.score)` shows a name's arguments, results, errors and an example.",
        "This page is written by `python docs/make_reference.py`.",
    ]
    for heading, rooms in GROUPS.items():
        lines += ["", f"## {heading}", ""]
        for name in sorted(n for n, home in homes.items() if home in rooms):
            thing = getattr(nasplat, name)
            lines.append(f"- `{signature(name, thing)}`: {ALIASES.get(name) or first_sentence(thing)}")
    lines += ["", "## Blocks", ""]
    blocks = import_module("nasplat.blocks")
    for name in sorted(blocks.__all__):
        lines.append(f"- `nasplat.blocks.{name}`: {first_sentence(getattr(blocks, name))}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
