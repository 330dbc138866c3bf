"""Options that several verbs share, and those that are the fields of a run: `of_run` makes them, `asked` reads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from nasplat.runs.fields import Field, fields_of

if TYPE_CHECKING:
    from nasplat.runs.run import AbstractRun

POSITIVE = click.IntRange(min=1)
"""Type of an option that counts something."""


class _Place(click.Path):
    """A path, which no operating system lets hold a null byte."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value) or "\0" in str(value):
            self.fail(f"expected a path, got {value!r}", param, ctx)
        return super().convert(value, param, ctx)


FOLDER = _Place(path_type=Path)
"""Type of an option that is a path."""
FILE = _Place(dir_okay=False, path_type=Path)
"""Type of an option that is a file to write."""
METAVARS = {"int": "INTEGER", "float": "NUMBER", "Path": "FOLDER", "tuple[str": "A,B,…", "tuple[int": "1,3,224,224"}
"""What stands for a value in the help, by the beginning of the field's type."""
Verb = TypeVar("Verb", bound=Callable[..., Any])


def _trusting(context: click.Context, _: click.Parameter, is_trusting: bool) -> None:
    """Let data name Python files for the rest of the command."""
    if is_trusting:
        from nasplat.searchspace.registry import trusting

        context.with_resource(trusting())


trust = click.option(
    "--trust",
    is_flag=True,
    expose_value=False,
    callback=_trusting,
    help="Python files that data name, such as the space in a run folder or in a line of an architecture, may be run. "
    "What the words of the command name is run without it.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="The answer is printed as JSON instead of a table.")
presets = click.option(
    "--preset",
    "preset",
    multiple=True,
    metavar="NAME=VALUE",
    help="A preset of the space, such as width=8; the option may be repeated. Where a verb has a --task, that decides "
    "image side, channels and classes of the space, unless they are given here.",
)
limits = click.option(
    "--limit",
    "limit",
    multiple=True,
    metavar="NAME=VALUE",
    help="The largest allowed macs, params, activation_bytes or weight_bytes, such as macs=2e6, or of decoders "
    "prefill_macs, decode_macs or kv_bytes, such as decode_macs@4096=2e9; search also knows latency_ms. The option may "
    "be repeated.",
)
dry_run = click.option(
    "--dry-run", is_flag=True, help="The expected time and memory are stated, and nothing is written."
)
capture_workers = click.option(
    "--workers",
    type=POSITIVE,
    default=os.cpu_count() or 1,
    show_default="all cores",
    help="This many processes capture networks.",
)
input_shape = click.option(
    "--input",
    "shape",
    metavar="1,3,224,224",
    help="The shape of one input batch, for networks that are torch modules; perhaps with a number format, such as "
    "1,128:int64, or several with semicolons, by position or by name: ids=1,128:int64;mask=1,128:bool.",
)
out = click.option(
    "--out", required=True, type=FOLDER, help="The run is kept in this folder; the same command resumes it."
)
config = click.option(
    "--config",
    type=click.Path(dir_okay=False),
    help="The settings are read from this TOML file, whose keys are those of the run in Python; words here win.",
)
device = click.option(
    "--device", default="cpu", show_default=True, help="The torch device to compute on, such as cpu or cuda:0."
)


class RunCommand(click.Command):
    """A verb whose options are the fields of a run; those of settings inside it stand apart in the help."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        """Let words pass that no option takes: the run refuses them, and names the nearest setting.

        Args:
            args: Arguments of a click command.
            settings: Keywords of a click command.
        """
        let_pass = {"ignore_unknown_options": True, "allow_extra_args": True}
        super().__init__(*args, context_settings=let_pass, **settings)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and below them those with a dot.

        Args:
            ctx: Context of the command.
            formatter: What the text is written to.
        """
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        shown = [(p, record) for p in options if (record := p.get_help_record(ctx)) is not None]
        for title, is_inner in (("Options", False), ("Settings of the training", True)):
            rows = [record for p, record in shown if ("." in p.opts[-1]) is is_inner]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def of_run(kind: str) -> Callable[[Verb], Verb]:
    """Give a verb the fields of a run as arguments and options; their sentences become its help.

    Args:
        kind: Name of the class, such as 'SearchRun'.

    Returns:
        Decorator of a click command's function.
    """

    def decorate(verb: Verb) -> Verb:
        for field, name in reversed(list(_flat(kind))):
            verb = _parameter(field, name)(verb)
        return verb

    return decorate


def asked(context: click.Context, kind: str) -> AbstractRun:
    """Make the run that a command asks for, of its words and its --config file.

    Args:
        context: Context of the command, whose options `of_run` made.
        kind: Name of the class, such as 'SearchRun'.

    Returns:
        Run with every setting.

    Raises:
        InputError: a word names no setting, or its value does not fit.
    """
    from nasplat.runs import kinds

    made: type[AbstractRun] = getattr(kinds, kind)
    placed: list[str] = []
    given: list[str] = []
    for field, name in _flat(kind):
        value = context.params[_identifier(name)]
        if value is None or context.get_parameter_source(_identifier(name)) is not ParameterSource.COMMANDLINE:
            continue
        if field.is_positional:
            placed.append(value)
        elif field.is_flag and not _is_inner(name):
            given.append(name if value else f"--no-{name[2:]}")
        else:
            given += [f"{name}={v}" for v in (value if field.is_repeated else (value,))]
    words, file = [*placed, *given, *context.args], context.params.get("config")
    return made.from_words(words) if file is None else made.from_toml(file, words)


def _flat(kind: str) -> Iterator[tuple[Field, str]]:
    """Fields of a run with their options; a class of settings inside it gives one for each of its own fields."""
    for field in fields_of(kind):
        if field.parts:
            yield from ((part, f"{field.option}.{part.name}") for part in field.parts)
        else:
            yield field, field.option


def _is_inner(name: str) -> bool:
    return "." in name


def _identifier(name: str) -> str:
    """Name of the parameter in click, which no other option of a verb has."""
    return "field_" + name[2:].replace("-", "_").replace(".", "__")


def _parameter(field: Field, name: str) -> Callable[[Verb], Verb]:
    """The argument or option of one field; every value stays text until the run reads it."""
    if field.is_positional:
        return click.argument(_identifier(name), metavar=field.name.upper(), required=False)
    default = (
        "" if field.default is None or field.default in ("", ()) or field.is_flag else f"  [default: {field.default}]"
    )
    help_text = f"{field.sentence}{default}"
    if field.is_flag and not _is_inner(name):
        return click.option(_identifier(name), f"{name}/--no-{name[2:]}", default=None, help=help_text)
    short = ["-n"] if name == "--n" else []
    return click.option(
        *(_identifier(name), *short, name),
        multiple=field.is_repeated,
        metavar=_metavar(field),
        help=help_text,
    )


def _metavar(field: Field) -> str:
    if field.kind.startswith("Mapping"):
        return "NAME=VALUE"
    if field.is_flag:
        return "true|false"
    if field.is_repeated:
        return "ENCODING"
    return next((shown for start, shown in METAVARS.items() if field.kind.startswith(start)), "TEXT")
