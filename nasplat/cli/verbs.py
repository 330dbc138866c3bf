"""The command line: a thin table of verbs; each calls a function of the library and prints what it returns.

Heavy imports happen inside the verbs, so that `nasplat --help` is immediate. The file is long because it is the one list of
all verbs and their options.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import click

from nasplat import __version__
from nasplat.errors import InputError, NasplatError

EPILOG = """\b
Start here:
  nasplat demo                                    the whole way, on embedded data
  nasplat score mine.py:factory --input 1,3,32,32   rank your own network
  nasplat sample nasbench201 -n 3                 architectures of a space
  nasplat search nasbench201 --task digits-clutter --limit macs=2e6 --out run
Every verb has --json. Networks are named by space:encoding, file.py:factory, model.onnx, timm:name, or an architecture's
JSON line."""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="nasplat")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Know how good and how fast a neural network will be before you train it; then find a better one."""
    context.obj = debug


def main() -> None:
    """Entry point: errors of ours become one paragraph and exit code 2."""
    debug = "--debug" in sys.argv
    try:
        status = cli.main(standalone_mode=False)
    except click.ClickException as err:
        err.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            f"stopped; what was finished is kept. To go on:\n  {shlex.join(['nasplat', *sys.argv[1:]])}", err=True
        )
        sys.exit(130)
    except NasplatError as err:
        if debug:
            raise
        click.echo(f"{type(err).__name__}: {err}", err=True)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


# -- shared by verbs ---------------------------------------------------------------------------------------------------

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
presets = click.option(
    "--preset", "preset", multiple=True, metavar="NAME=VALUE", help="Preset of the space, such as width=8."
)
limit_option = click.option(
    "--limit",
    "limit",
    multiple=True,
    metavar="NAME=VALUE",
    help="Largest allowed macs, params or activation_bytes; of search also latency_ms.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="State the expected time and memory; write nothing.")
workers_option = click.option(
    "--workers", default=os.cpu_count() or 1, show_default="all cores", help="Processes that capture."
)
input_shape = click.option("--input", "shape", metavar="1,3,224,224", help="Shape of one input batch, for modules.")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _pairs(texts: tuple[str, ...]) -> dict[str, Any]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"expected NAME=VALUE, got {text!r}.\n  Write for instance width=8.")
        found[name] = _value(value)
    return found


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(v) for v in text.split(","))
    except ValueError as err:
        raise InputError(
            f"expected --input as numbers with commas, got {text!r}.\n  Write for instance 1,3,224,224."
        ) from err


def _config(kind: type, prefix: str, extra: tuple[str, ...]) -> dict[str, Any]:
    """`--train.lr=0.001` and the like become fields of a configuration."""
    known = {f.name: f.type for f in dataclasses.fields(kind)}
    found: dict[str, Any] = {}
    for text in extra:
        name, _, value = text.removeprefix("--").partition("=")
        section, dot, key = name.partition(".")
        if not dot or section != prefix or key not in known:
            options = ", ".join(f"--{prefix}.{k}" for k in known)
            raise InputError(
                f"expected options among {options}, got {text!r}.\n  Write for instance --{prefix}.epochs=3."
            )
        found[key] = _value(value)
        if known[key] in {"int", "float"} and not isinstance(found[key], int | float):
            raise InputError(f"--{name} expected a number, got {value!r}.\n  Write for instance --{name}=3.")
    return found


def _print(data: Any, as_json: bool, table: Callable[[], Any]) -> None:
    if as_json:
        click.echo(json.dumps(data, indent=1, default=str))
    else:
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else 140)
        console.print(table())


def _table(columns: list[str], rows: list[list[str]], title: str = "") -> Any:
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


@contextmanager
def _progress(what: str, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """A bar with ETA; `update(done, total, note)`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, quiet=quiet)
    columns = (
        *(TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn()),
        *(TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.fields[note]}")),
    )
    with Progress(*columns, console=console, transient=False) as bar:
        task = bar.add_task(what, total=None, note="")

        def update(done: int, total: int | None, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield update


def _millions(n: float) -> str:
    return f"{n / 1e6:,.2f} M" if n >= 1e5 else f"{n:,.0f}"


# -- verbs -------------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("networks", nargs=-1, required=True)
@click.option("--predictor", default="base", show_default=True, help="Name or folder of a trained predictor.")
@click.option("--against", default=None, metavar="SPACE", help="Of base: percentiles within this search space.")
@click.option(
    "--recipe", default=None, metavar="TAG", help="Of base: how an ImageNet classifier is trained, such as a1_in1k."
)
@click.option("--seed", default=0, show_default=True, help="Of the random architectures that stand for --against.")
@click.option(
    "--calibrate",
    "labelled",
    default=None,
    metavar="TABLE",
    help="Of family aiop: some twenty labelled networks of the task that is asked about.",
)
@click.option("--task", "task", default=None, metavar="COLUMN", help="Of --calibrate: its label.")
@click.option("--space", default=None, help="Of --calibrate: the space that reads its architecture column.")
@input_shape
@as_json
def score(
    networks: tuple[str, ...],
    predictor: str,
    against: str | None,
    recipe: str | None,
    seed: int,
    labelled: str | None,
    task: str | None,
    space: str | None,
    shape: str | None,
    as_json: bool,
) -> None:
    """Rank networks by predicted quality, with interval, beside MACs and parameters.

    base tells the percentile within the family that a network belongs to, and ImageNet top-1 of classifiers of that size. Outside what the predictor
    has learnt from it abstains and says why.
    """
    import nasplat

    if len({labelled is None, task is None, space is None}) > 1:
        raise InputError(
            "expected --calibrate, --task and --space together, got some of them.\n  Give all three, or none."
        )
    known = None if labelled is None else nasplat.load_table(labelled, space=space, metric=task or "")
    rows = nasplat.score(list(networks), predictor, _shape(shape), against, recipe, seed, known)
    data = [{"network": r.name, "rank": i} | r.prediction.to_dict() for i, r in enumerate(rows, 1)]

    def table() -> Any:
        order = sorted(rows, key=lambda r: -r.prediction.macs)
        cells = []
        for i, r in enumerate(rows, 1):
            p = r.prediction
            value = f"{p.mean:.2f}" if p.mean is not None else "-"
            interval = f"[{p.low:.2f}, {p.high:.2f}]" if p.low is not None else "outside the support"
            macs = ("≥ " if p.is_lower_bound else "") + _millions(p.macs)
            percentile = "" if p.reference or p.percentile is None else f"{p.percentile:.0f}"  # base predicts it
            timed = (
                "" if p.latency_ms is None else f"{p.latency_ms:.1f} [{p.latency_low_ms:.1f}, {p.latency_high_ms:.1f}]"
            )
            top = "" if p.top1 is None else f"{p.top1:.1f} [{p.top1_low:.1f}, {p.top1_high:.1f}]"
            within = [percentile, p.reference, top]
            cells.append(
                [r.name, str(i), value, interval, *within, macs, str(order.index(r) + 1), _millions(p.params), timed]
            )
        first = rows[0].prediction
        title = f"{predictor}: {first.metric}; {first.level:.0%} intervals; MACs: 1 MAC = 2 FLOP"
        within = ["percentile", "family", "ImageNet top-1 %"]
        columns = ["network", "rank", "predicted", "interval", *within, "MACs", "MACs rank", "parameters", "latency ms"]
        told = [i for i in range(len(columns)) if any(row[i] for row in cells)]
        return _table([columns[i] for i in told], [[row[i] for i in told] for row in cells], title)

    _print(data, as_json, table)
    if not as_json:
        for r in rows:
            if r.prediction.reason:
                click.echo(f"{r.name}: outside the support: {r.prediction.reason}")


@cli.command()
@click.argument("network")
@input_shape
@click.option("--depth", default=1, show_default=True, help="Names of the module path that the table tells apart.")
@click.option("--ops", "by_op", is_flag=True, help="A table by operation instead of by module.")
@click.option("--nodes", is_flag=True, help="List every operation.")
@click.option(
    "--diff", "other", default=None, metavar="NETWORK", help="Show what changes from NETWORK to this second one."
)
@click.option(
    "--drawing", default=None, type=click.Path(path_type=Path), help="Write a drawing, folded by module (SVG)."
)
@as_json
def inspect(
    network: str,
    shape: str | None,
    depth: int,
    by_op: bool,
    nodes: bool,
    other: str | None,
    drawing: Path | None,
    as_json: bool,
) -> None:
    """Show what a network computes: MACs, parameters, activations by module, what is not known, the canonical key."""
    from collections import Counter

    import nasplat
    from nasplat.graph.compare import by_module
    from nasplat.graph.cost import node_macs

    graph = nasplat.capture(network, _shape(shape))
    if other is not None:
        _show_diff(network, graph, other, nasplat.capture(other, _shape(shape)), drawing, as_json)
        return
    if drawing is not None:
        nasplat.draw(graph, drawing)
    cost = graph.cost
    macs: Counter[str] = Counter()
    count: Counter[str] = Counter(n.op for n in graph.nodes)
    for i, n in enumerate(graph.nodes):
        macs[n.op] += node_macs(n, graph.input_shapes(i))
    modules = by_module(graph, depth)
    unknown = sum(c for op, c in count.items() if op.startswith("other:"))
    data = {
        "network": network,
        "macs": graph.macs,
        "is_lower_bound": cost.is_lower_bound,
        "other_flops": cost.other_flops,
        "params": graph.params,
        "weight_bytes": dict(cost.weight_bytes),
        "activation_bytes": graph.activation_bytes,
        "nodes": graph.num_nodes,
        "edges": graph.num_edges,
        "known_share": 1 - unknown / max(1, graph.num_nodes),
        "unknown_ops": graph.unknown_ops,
        "rung": graph.rung,
        "notes": graph.notes,
        "key": graph.key,
        "ops": dict(count.most_common()),
        "modules": [dataclasses.asdict(m) for m in modules],
    }

    def table() -> Any:
        if nodes:
            rows = [
                [n.path or "(root)", n.op, str(n.shape), str(node_macs(n, graph.input_shapes(i)))]
                for i, n in enumerate(graph.nodes)
            ]
            return _table(["module", "op", "output", "MACs"], rows)
        if by_op:
            return _table(["op", "count", "MACs"], [[op, str(c), _millions(macs[op])] for op, c in count.most_common()])
        rows = [
            [
                *(m.path, str(m.nodes), _millions(m.macs), f"{m.macs / max(1, graph.macs):.1%}", _millions(m.params)),
                *(f"{m.activation_bytes / 2**20:.2f}", ", ".join(f"{c} {op}" for op, c in m.ops[:4])),
            ]
            for m in modules
        ]
        columns = ["module", "operations", "MACs", "share", "parameters", "activations MiB", "mostly"]
        return _table(columns, rows)

    _print(data, as_json, table)
    if not as_json:
        bound = "≥ " if cost.is_lower_bound else ""
        weights = ", ".join(f"{b / 2**20:.2f} MiB {d}" for d, b in cost.weight_bytes) or "none"
        click.echo(
            f"{bound}{graph.macs:,} MACs (1 MAC = 2 FLOP) and {bound}{cost.other_flops:,} other FLOP, {graph.params:,} parameters "
            f"({weights}), peak activations {graph.activation_bytes / 2**20:.2f} MiB\n{graph.num_nodes} nodes, {graph.num_edges} "
            f"edges, {data['known_share']:.1%} of the operations known, captured by {graph.rung!r}\nkey {graph.key}"
        )
        for note in graph.notes:
            click.echo(f"note: {note}")


def _show_diff(first: str, before: Any, second: str, after: Any, drawing: Path | None, as_json: bool) -> None:
    """What changes between two networks: totals, and a table of the stretches that differ."""
    import nasplat
    from nasplat.graph.compare import changes

    found = changes(before, after)
    totals = {
        name: (getattr(before, name), getattr(after, name))
        for name in ("macs", "params", "activation_bytes", "num_nodes", "num_edges")
    }
    if drawing is not None:
        nasplat.draw_diff(before, after, drawing)
    data = {
        "first": first,
        "second": second,
        "same_computation": before.key == after.key,
        "totals": totals,
        "changes": [dataclasses.asdict(c) for c in found],
    }

    def words(graph: Any, numbers: tuple[int, ...]) -> str:
        shown = [graph.nodes[i] for i in numbers]
        texts = [
            f"{n.op}{'×'.join(map(str, n.get('kernel', ())))} {'×'.join(map(str, n.shape[1:]))}" for n in shown[:4]
        ]
        return ", ".join(texts) + (f" … {len(shown)} in all" if len(shown) > 4 else "") or "–"

    def place(change: Any) -> str:
        graph, numbers = (after, change.after) if change.after else (before, change.before)
        return graph.nodes[numbers[0]].path or graph.nodes[numbers[0]].op

    def table() -> Any:
        rows = [[c.kind, place(c), words(before, c.before), words(after, c.after)] for c in found]
        return _table(["change", "at", "before", "after"], rows)

    _print(data, as_json, table)
    if not as_json:
        if before.key == after.key:
            click.echo("the same computation" + (" in another order or under other names" if found else ""))
        for name, (a, b) in totals.items():
            click.echo(f"{name}: {a:,} → {b:,} ({(b - a) / max(1, a):+.1%})")


@cli.command()
@as_json
def spaces(as_json: bool) -> None:
    """List the search spaces, variants included, with their sizes."""
    from nasplat.searchspace import list_spaces, list_variants, load_space

    rows = []
    for name in (n for main in list_spaces() for n in (main, *list_variants(main))):
        space = load_space(name)
        count = space.count()
        rows.append(
            {
                "space": name,
                "encodings": count.value,
                "error": count.error,
                "networks": count.networks,
                "about": space.doc,
            }
        )

    def table() -> Any:
        cells = [
            [
                r["space"],
                f"{r['encodings']:.4g}" + (f" ± {r['error']:.1g}" if r["error"] else ""),
                r["about"].splitlines()[0],
            ]
            for r in rows
        ]
        return _table(["space", "encodings", "about"], cells)

    _print(rows, as_json, table)


@cli.command()
@click.argument("space")
@click.option("-n", "n", default=1, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True)
@click.option("--uniform", type=click.Choice(["choices", "architectures"]), default="choices", show_default=True)
@limit_option
@presets
@as_json
def sample(
    space: str, n: int, seed: int, uniform: str, limit: tuple[str, ...], preset: tuple[str, ...], as_json: bool
) -> None:
    """Draw architectures of a space (a name, or a path to your own file), within limits if there are any."""
    from nasplat.searchspace import load_space

    loaded, limits = load_space(space, **_pairs(preset)), _pairs(limit)
    if limits:
        feasible = loaded.feasible(limits)
        click.echo(f"{feasible.method}, prepared in {feasible.setup_seconds:.1f} s", err=True)
    for i in range(n):
        architecture = loaded.sample(seed=seed + i, uniform=uniform, limits=limits)
        click.echo(architecture.to_json() if as_json or loaded.presets else str(architecture))


@cli.command()
@click.argument("networks", nargs=-1)
@input_shape
@click.option("--batch", default=1, show_default=True)
@click.option("--repeats", default=50, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--runtime", default="eager", show_default=True, help="eager, compiled, cuda-graph or onnxruntime.")
@click.option("--precision", default="float32", show_default=True, help="float32, bfloat16 or float16.")
@click.option("--threads", type=int, default=None, help="Within an operator.  [default: torch's number]")
@click.option(
    "--calibrate", is_flag=True, help="Time a sample of networks and fit what predicts the latency of others."
)
@click.option(
    "--space", "spaces", multiple=True, help="Family to calibrate on; may be repeated.  [default: all shipped]"
)
@click.option("-n", "n", default=200, show_default=True, help="Networks to calibrate on.")
@as_json
def measure(
    networks: tuple[str, ...],
    shape: str | None,
    batch: int,
    repeats: int,
    device: str,
    runtime: str,
    precision: str,
    threads: int | None,
    calibrate: bool,
    spaces: tuple[str, ...],
    n: int,
    as_json: bool,
) -> None:
    """Time networks on this machine, in turns: median of a forward pass with its 95 % interval. Overlapping intervals are equal."""
    if calibrate == bool(networks):
        raise click.UsageError("expected networks to time, or --calibrate")
    from nasplat.probes.conditions import Conditions

    conditions = Conditions(device, batch, runtime, precision, threads)
    if calibrate:
        _calibrate(spaces, n, conditions, as_json)
        return
    from nasplat.inputs import resolve
    from nasplat.probes import measure_together

    timed = [_buildable(resolve(name), _shape(shape)) for name in networks]
    found = measure_together(timed, conditions, repeats)
    rows = [
        {"network": name} | dataclasses.asdict(f) | {"against_first": f.compare(found[0])}
        for name, f in zip(networks, found, strict=True)
    ]

    def table() -> Any:
        cells = [
            [
                r["network"],
                f"{r['median_ms']:.3f}",
                f"[{r['low_ms']:.3f}, {r['high_ms']:.3f}]",
                r["against_first"],
                "; ".join(r["flags"]),
            ]
            for r in rows
        ]
        first = rows[0]
        title = f"{first['device']}, batch {batch}, {first['threads']} threads, {first['dtype']}, {first['runtime']}"
        return _table(["network", "median ms", "95 % interval", "against the first", "flags"], cells, title)

    _print(rows, as_json, table)


def _calibrate(spaces: tuple[str, ...], n: int, conditions: Any, as_json: bool) -> None:
    from nasplat.workflows.calibrate import calibrate

    with _progress("networks", as_json) as update:
        predictor = calibrate(spaces, n, conditions, report=update)
    folder = conditions.folder
    card = (folder / "README.md").read_text(encoding="utf-8")
    click.echo(json.dumps(predictor.validation_ | {"folder": str(folder)}) if as_json else f"{card}\n{folder}")


@cli.command()
@click.option("--family", default="trees", show_default=True, help="trees, gennape, count, or aiop with --tasks.")
@click.option("--table", "table_path", required=True, help="Labelled architectures, .csv or .csv.gz.")
@click.option("--space", required=True, help="Space that reads the architecture column.")
@click.option("--metric", default=None, help="Column of the label.")
@click.option(
    "--tasks",
    default=None,
    metavar="A,B,…",
    help="Of aiop: columns, or TABLE:COLUMN of other tables of the space; one adapter each.",
)
@click.option(
    "--encoder", default="gennape-nb101", show_default=True, help="Of aiop: predictor whose encoder is frozen."
)
@click.option(
    "--scaling",
    type=click.Choice(["none", "standard", "flops"]),
    default="standard",
    show_default=True,
    help="Of aiop's labels.",
)
@click.option("--unit", default=None, help="What the label is, in words, with its unit.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder of the predictor.")
@click.option("--seeds", default="0,1,2", show_default=True, help="Seeds of split and predictor; the first is saved.")
@workers_option
@presets
@as_json
def fit(
    family: str,
    table_path: str,
    space: str,
    metric: str | None,
    tasks: str | None,
    encoder: str,
    scaling: str,
    unit: str | None,
    out: Path,
    seeds: str,
    workers: int,
    preset: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train a predictor on a labelled table; prints its quality beside MACs and parameters alone."""
    import nasplat
    from nasplat.workflows.fit import fit_and_save

    if (family == "aiop") != (tasks is not None) or (tasks is None) != (metric is not None):
        raise InputError(
            "expected --metric, or --tasks with --family aiop.\n  Name the column of the label, or those of the tasks."
        )
    if tasks is not None:
        _fit_tasks(
            table_path,
            space,
            tasks.split(","),
            encoder,
            scaling,
            out,
            int(seeds.split(",")[0]),
            workers,
            _pairs(preset),
            as_json,
        )
        return
    assert metric is not None
    table = nasplat.load_table(table_path, space=space, metric=metric, **_pairs(preset))
    command = (
        f"nasplat fit --family {family} --table {Path(table_path).name} --space {space} --metric {metric} --seeds {seeds}"
        + "".join(f" --preset {p}" for p in preset)
        + (f" --unit {json.dumps(unit)}" if unit else "")
        + f" --out {out}"
    )
    with _progress("fit", as_json) as update:
        numbers = [int(s) for s in seeds.split(",")]
        _, rows = fit_and_save(table, family, out, numbers, unit, command=command, progress=update, workers=workers)
    _print(rows, as_json, lambda: _evaluation_table(rows))
    if not as_json:
        click.echo(f"saved {out}")


def _fit_tasks(
    table_path: str,
    space: str,
    tasks: list[str],
    encoder: str,
    scaling: str,
    out: Path,
    seed: int,
    workers: int,
    presets: dict[str, Any],
    as_json: bool,
) -> None:
    import nasplat
    from nasplat.workflows.fit import fit_tasks

    tables = {}
    for word in tasks:
        file, colon, column = word.rpartition(":")
        tables[column] = nasplat.load_table(file if colon else table_path, space=space, metric=column, **presets)
    command = f"nasplat fit --family aiop --table {Path(table_path).name} --space {space} --tasks {','.join(tasks)} --encoder {encoder}"
    command += f" --scaling {scaling} --seeds {seed} --out {out}"
    with _progress("fit", as_json) as update:
        _, rows = fit_tasks(
            tables,
            nasplat.load_predictor(encoder),
            out,
            seed,
            scaling,
            command=command,
            progress=update,
            workers=workers,
        )

    def table() -> Any:
        cells = [
            [
                r["task"],
                str(r["n"]),
                f"{r['kendall_tau']:.3f}",
                f"{r['spearman_rho']:.3f}",
                "-" if r["mean_absolute_error"] is None else f"{r['mean_absolute_error']:.4g}",
                f"{r['macs_tau']:.3f}",
            ]
            for r in rows
        ]
        return _table(
            ["task", "networks", "τ-b", "ρ", "MAE", "τ-b MACs"], cells, "Each task's own adapter after 20 labels"
        )

    _print(rows, as_json, table)
    if not as_json:
        click.echo(
            f"saved {out}; next: nasplat score … --predictor {out} --calibrate TABLE --task COLUMN --space {space}"
        )


def _evaluation_table(rows: list[dict[str, Any]]) -> Any:
    cells = [
        [
            str(r.get("seed", "-")),
            *(f"{r['n']}", f"{r['in_support']:.1%}", f"{r['kendall_tau']:.3f}", f"{r['spearman_rho']:.3f}"),
            f"{r['ndcg_at_10']:.3f}",
            "-" if r["mean_absolute_error"] is None else f"{r['mean_absolute_error']:.3f}",
            "-" if r["interval_coverage"] is None else f"{r['interval_coverage']:.1%}",
            *(f"{r['macs_tau']:.3f}", f"{r['params_tau']:.3f}"),
        ]
        for r in rows
    ]
    columns = ["seed", "networks", "in support", "τ-b", "ρ", "NDCG@10", "MAE", "covered", "τ-b MACs", "τ-b parameters"]
    return _table(columns, cells)


@cli.command()
@click.argument("predictor")
@click.option("--table", "table_path", required=True, help="Labelled architectures, .csv or .csv.gz.")
@click.option("--space", required=True, help="Space that reads the architecture column.")
@click.option("--metric", required=True, help="Column of the label.")
@click.option("--part", type=click.Choice(["test", "decide", "train", "all"]), default="test", show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the split (by graph key).")
@click.option("--rows", default=None, type=int, help="At most so many rows of the table.")
@click.option(
    "--beyond-support", "beyond", is_flag=True, help="Judge rank scores of all networks; no level, no interval."
)
@click.option("--finetune", default=0, help="Fine-tune on so many labels of the part first; judge on the rest.")
@click.option(
    "--choose",
    type=click.Choice(["random", "spread"]),
    default="random",
    show_default=True,
    help="Labels of --finetune.",
)
@click.option(
    "--loss",
    type=click.Choice(["regression", "ranking", "both"]),
    default="regression",
    show_default=True,
    help="Of --finetune.",
)
@click.option(
    "--without", default=None, metavar="TEXT", help="Leave out rows whose architecture contains the text, such as none."
)
@workers_option
@presets
@as_json
def evaluate(
    predictor: str,
    table_path: str,
    space: str,
    metric: str,
    part: str,
    seed: int,
    rows: int | None,
    beyond: bool,
    finetune: int,
    choose: str,
    loss: str,
    without: str | None,
    workers: int,
    preset: tuple[str, ...],
    as_json: bool,
) -> None:
    """Judge a predictor on labelled networks: rank agreement, error, coverage, beside the baselines."""
    import nasplat
    from nasplat.workflows.fit import distinct, few, split
    from nasplat.workflows.fit import evaluate as judge

    table = nasplat.load_table(table_path, space=space, metric=metric, **_pairs(preset))
    if without is not None:
        table = table.take([i for i, row in enumerate(table.rows) if without not in row[table.key]])
    if rows is not None:
        table = table.take(range(min(rows, len(table))))
    with _progress("capture", as_json) as update:
        data = distinct(table, update, workers)
    chosen = data if part == "all" else split(data, seed)[("train", "decide", "test").index(part)]
    loaded = nasplat.load_predictor(predictor)
    if finetune:
        labels, chosen = few(chosen, finetune, seed, loaded if choose == "spread" else None)
        loaded = loaded.finetune(labels.views, labels.labels, seed, loss)
    found = {"seed": seed} | dataclasses.asdict(judge(loaded, chosen, beyond))
    _print(found, as_json, lambda: _evaluation_table([found]))


def _load(space: str, preset: tuple[str, ...], task: str) -> tuple[Any, Any]:
    import nasplat

    return nasplat.load_space(space, **_pairs(preset)), nasplat.load_task(task)


def _supernet(
    space: Any, task: Any, seed: int, device: str, folder: Path, extra: tuple[str, ...], quiet: bool, **more: Any
) -> Any:
    import nasplat
    from nasplat.supernet import TrainConfig

    options = _config(TrainConfig, "train", extra)
    supernet = nasplat.Supernet(space, task, seed, device, kernel_transforms=more.get("kernel_transforms", False))
    with _epochs("supernet", quiet) as report:
        supernet.train(checkpoint=folder, teacher=more.get("teacher"), report=report, **options)
    return supernet


@contextmanager
def _epochs(title: str, quiet: bool) -> Iterator[Any]:
    """What is told after each epoch of a supernet; its warnings are one line each."""
    import warnings

    from nasplat.errors import SupernetWarning

    with _progress(title, quiet) as update, warnings.catch_warnings():
        warnings.simplefilter("ignore", SupernetWarning)  # said here, in full

        def report(epoch: Any, total: int) -> None:
            health = epoch.health
            found = (
                ""
                if health is None
                else f", largest {health.largest:.1f}, random {sum(health.random) / len(health.random):.1f}"
            )
            update(epoch.epoch, total, f"loss {epoch.loss:.3f}{found}, {epoch.images_per_second:,.0f} images/s")
            for text in epoch.warnings:
                click.echo(f"warning, epoch {epoch.epoch}: {text}", err=True)

        yield report


def _show_forecast(found: Any, as_json: bool) -> None:
    def table() -> Any:
        rows = [
            [
                p.name,
                str(p.count),
                f"{p.each:.3g} ± {p.error:.1g}" if p.measured else "",
                str(p.measured),
                _duration(p.seconds),
            ]
            for p in found.parts
        ]
        return _table(["part", "left to do", "seconds each", "timed", "together"], rows)

    _print(found.to_dict(), as_json, table)
    if not as_json:
        low, high = found.interval
        memory = "unknown" if found.peak_bytes is None else f"{found.peak_bytes / 2**30:.2f} GiB"
        shared = f", shared by {found.workers} processes" if found.workers > 1 else ""
        click.echo(
            f"about {_duration(found.seconds)} ({_duration(low)} to {_duration(high)}){shared}; peak memory of a process {memory} on "
            f"{found.device}\nWithout export and report. Nothing was written."
        )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _buildable(found: Any, shape: tuple[int, ...] | None) -> tuple[Any, Any]:
    """Module and input shape of a resolved network."""
    from nasplat.frontends import OnnxFile
    from nasplat.inputs import DEFAULT_INPUT
    from nasplat.searchspace import Architecture

    if isinstance(found, OnnxFile):
        raise InputError(
            f"expected a network torch can run, got {str(found)!r}.\n  Give the module the file was exported from."
        )
    if isinstance(found, Architecture):
        return found.space.construct(found)
    return found, shape or getattr(found, "example_input", DEFAULT_INPUT)


EXTRA = {"ignore_unknown_options": True, "allow_extra_args": True}


@cli.command(context_settings=EXTRA)
@click.argument("space")
@click.option(
    "--task",
    default="digits-clutter",
    show_default=True,
    help="Name, or a folder of IDX or npz files or pictures, or stereo:FOLDER; ?side=32 appends options.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder; the same command resumes it.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--teacher",
    default=None,
    metavar="NETWORK|RUN",
    help="Of --train.strategy=ovo: a network, or the --out of an earlier train.",
)
@click.option(
    "--kernel-transforms", is_flag=True, help="Smaller depthwise kernels by learnt matrices, as in Once-for-All."
)
@click.option(
    "--from",
    "source",
    default=None,
    type=click.Path(path_type=Path),
    help="Train one subnet further: run of a search or train.",
)
@click.option(
    "--subnet", default=None, metavar="ENCODING", help="Of --from: which one; default: the one that the search chose."
)
@presets
@dry_run_option
@as_json
@click.pass_context
def train(
    context: click.Context,
    space: str,
    task: str,
    out: Path,
    seed: int,
    device: str,
    teacher: str | None,
    kernel_transforms: bool,
    source: Path | None,
    subnet: str | None,
    preset: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train a supernet of a space. Further options: --train.epochs=10 --train.strategy=sandwich --train.lr=0.003 …

    --train.strategy=ovo distils online: a sampled subnet learns from another (--train.teacher=sampled or largest), or from --teacher.
    --from trains one subnet of an earlier run further and exports it. Started by torchrun, all its processes train together.
    """
    from nasplat.runs import runs
    from nasplat.supernet import TrainConfig
    from nasplat.supernet.extremes import end
    from nasplat.supernet.processes import join, leave

    loaded, data = _load(space, preset, task)
    config = TrainConfig(**_config(TrainConfig, "train", tuple(context.args)))
    if subnet is not None and source is None:
        raise InputError("expected --from beside --subnet, got none.\n  Give the run whose supernet has the subnet.")
    if source is not None and (teacher is not None or kernel_transforms):
        raise InputError(
            "expected --from without --teacher and --kernel-transforms.\n  They belong to the training of a supernet."
        )
    architecture = None if source is None else loaded.parse(subnet) if subnet else runs.chosen(source, loaded)
    if dry_run:
        trained = loaded if architecture is None else loaded.only(architecture)
        _show_forecast(runs.forecast_training(trained, data, out / "supernet", config, seed, device), as_json)
        return
    settings = {
        "argument": space,
        "space": loaded.reference,
        "task": repr(data),
        "seed": seed,
        "options": context.args,
        "teacher": teacher,
        "kernel_transforms": kernel_transforms,
        "from": source,
        "subnet": subnet,
    }
    processes, device = join(device)
    try:
        if processes.is_first:
            runs.describe(out, "train", settings)
        if source is not None and architecture is not None:
            inherited = runs.trained(source, loaded, data, seed, device)
            with _epochs("subnet", as_json or not processes.is_first) as report:
                row = runs.finetune(inherited, architecture, out, config, report)
            if processes.is_first:
                _print(row, as_json, lambda: _table([*row], [[_cell(v) for v in row.values()]]))
            return
        more = {"teacher": runs.teacher_of(teacher, data, device) if teacher is not None else None}
        quiet = as_json or not processes.is_first
        extra = tuple(context.args)
        supernet = _supernet(
            loaded, data, seed, device, out / "supernet", extra, quiet, kernel_transforms=kernel_transforms, **more
        )
    finally:
        leave()
    if not processes.is_first:
        return
    members = {"largest": end(loaded, True, 0), "smallest": end(loaded, False, 0), "random": loaded.sample(seed=1)}
    rows = [{"subnet": k, "architecture": str(a), data.metric_name: supernet.evaluate(a)} for k, a in members.items()]
    _print(
        rows,
        as_json,
        lambda: _table(
            ["subnet", data.metric_name, "architecture"],
            [[r["subnet"], f"{r[data.metric_name]:.2f}", r["architecture"][:80]] for r in rows],
        ),
    )
    if not as_json:
        click.echo(
            f"saved {out}; next: nasplat report {out}, or nasplat search {space} --task {shlex.quote(task)} --supernet {out} …"
        )


@cli.command(context_settings=EXTRA)
@click.argument("space")
@click.option(
    "--task",
    default="digits-clutter",
    show_default=True,
    help="Name, or a folder of IDX or npz files or pictures, or stereo:FOLDER; ?side=32 appends options.",
)
@click.option(
    "--maximize", default="inherited", type=click.Choice(["inherited", "trained", "predicted"]), show_default=True
)
@click.option(
    "--minimize",
    default="macs",
    show_default=True,
    help="macs, params, activation_bytes, latency (each network timed), latency_ms (predicted), or none.",
)
@limit_option
@click.option("--trials", default=40, show_default=True)
@click.option(
    "--guide",
    default="trees-nb201",
    show_default=True,
    help="Predictor that proposes; none: proposals learn from the trials alone; fitted: base, fine-tuned on --pilots networks.",
)
@click.option(
    "--pilots",
    type=int,
    default=None,
    help="Networks that --guide fitted evaluates first; the search knows them.  [default: 40]",
)
@click.option(
    "--latency",
    "latency_folder",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FOLDER",
    help="Calibration behind latency_ms; default: networks of the space are timed first.",
)
@click.option("--timed", type=int, default=None, help="Networks that are timed for latency_ms.  [default: 40]")
@click.option("--runtime", default=None, help="Of latency_ms: onnxruntime, eager or compiled.  [default: onnxruntime]")
@click.option(
    "--exports",
    type=int,
    default=None,
    help="Members of the Pareto set that are exported, judged and timed as files.  [default: 1]",
)
@click.option(
    "--guide-at", "guide_at", multiple=True, metavar="NAME=VALUE", help="Presets at which the guide scores the choices."
)
@click.option(
    "--prune", is_flag=True, help="With --maximize trained: stop trainings that cannot reach the Pareto front."
)
@click.option(
    "--stages",
    default=None,
    metavar="A,B,…",
    help="Qualities from the cheapest to the truth instead of --maximize, such as predicted,inherited,trained:2,trained:12.",
)
@click.option(
    "--budget",
    type=float,
    default=None,
    metavar="SECONDS",
    help="Of evaluation, for all --stages and workers together.",
)
@click.option(
    "--storage", default=None, help="Optuna storage URL or .journal file; default: a journal in the run folder."
)
@click.option(
    "--supernet", "supernet_run", default=None, type=click.Path(path_type=Path), help="Run folder of `nasplat train`."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder; the same command resumes it.")
@click.option("--workers", default=1, show_default=True, help="Processes of one thread each on this machine.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@presets
@dry_run_option
@as_json
@click.pass_context
def search(context: click.Context, space: str, out: Path, as_json: bool, workers: int, dry_run: bool, **o: Any) -> None:
    """Search a space for the Pareto set of quality and cost; ends with the best subnet as ONNX.

    --limit latency_ms=20 or --minimize latency_ms first time some networks of the space on this machine and fit what predicts the others.
    Further options: --train.epochs=10 and other settings of the supernet. On several machines start the same command with one
    --storage that all can reach.
    """
    from nasplat.runs import runs
    from nasplat.study.workers import PARENT, end_with_parent, share_out
    from nasplat.supernet import TrainConfig

    loaded, data = _load(space, o["preset"], o["task"])
    stages = o["stages"].split(",") if o["stages"] else []
    if bool(stages) != (o["budget"] is not None):
        raise InputError("expected --stages and --budget together, got one of them.\n  Give both, or neither.")
    if o["exports"] is not None and "inherited" not in (stages or [o["maximize"]]):
        raise InputError(
            "--exports expected inherited quality: only subnets of a supernet have weights.\n  Leave it out."
        )
    if dry_run:
        named = {
            k: o[k] for k in ("maximize", "minimize", "trials", "guide", "prune", "storage", "budget", "seed", "device")
        }
        named |= {
            "config": TrainConfig(**_config(TrainConfig, "train", tuple(context.args))),
            "stages": stages,
            "workers": workers,
        }
        named |= {
            "pilots": o["pilots"],
            "timed_networks": o["timed"],
            "latency": o["latency_folder"],
            "runtime": o["runtime"],
        }
        named |= {
            "limits": _pairs(o["limit"]),
            "guide_at": _pairs(o["guide_at"]) or None,
            "supernet_run": o["supernet_run"],
        }
        _show_forecast(runs.forecast_search(loaded, data, out, **named), as_json)
        return
    is_worker = PARENT in os.environ
    quiet = as_json or is_worker
    if not is_worker:
        settings = {k: v for k, v in o.items()} | {"space": loaded.reference, "options": context.args}
        runs.describe(out, "search", settings)
    supernet = None
    if "inherited" in (stages or [o["maximize"]]):
        folder = (o["supernet_run"] or out) / "supernet"
        shared = None if (folder / "supernet.safetensors").exists() else runs.shared_supernet(o["storage"])
        if shared is not None:
            supernet = runs.finished_supernet(shared / "supernet.safetensors", loaded, data, o["seed"], o["device"])
        elif o["supernet_run"] is not None:
            supernet = runs.trained(o["supernet_run"], loaded, data, o["seed"], o["device"])
        else:
            supernet = _supernet(loaded, data, o["seed"], o["device"], folder, tuple(context.args), quiet)
        if o["storage"] and not shared:
            runs.share_supernet(folder, supernet.fingerprint)

    common: dict[str, Any] = {k: o[k] for k in ("minimize", "guide", "prune", "storage", "seed")}
    limits = _pairs(o["limit"])
    common |= {"supernet": supernet, "limits": limits, "guide_at": _pairs(o["guide_at"]) or None}
    if runs.LATENCY in limits or o["minimize"] == runs.LATENCY:
        with _progress("timed", quiet) as update:
            common["latency"] = runs.timed(
                loaded,
                o["latency_folder"] or out / "latency",
                o["runtime"] or "onnxruntime",
                o["timed"] or runs.TIMED,
                o["seed"],
                update,
            )
        if not quiet:
            click.echo(_latency_words(common["latency"]))
    fitted = None
    if o["guide"] == runs.FITTED and not stages:
        with _progress("pilots", quiet) as update:
            fitted = runs.fit_quality(
                *(loaded, data, out / "quality", o["maximize"], supernet, o["pilots"] or runs.PILOTED, limits),
                *(common.get("latency"), o["seed"], update),
            )
        if not quiet:
            click.echo(_quality_words(fitted.about))

    def run(trials: int, report: Any = None) -> Any:
        quality = stages[-1] if stages else o["maximize"]
        return runs.run_search(
            loaded, data, out, maximize=quality, trials=trials, fitted=fitted, report=report, **common
        )

    if workers > 1:
        with _progress("search", as_json) as update:
            total = None if stages else o["trials"]
            share_out(_worker_command(space, out, o, context.args), workers, run(0), total, update)
    plan = None
    with _progress("search", quiet or workers > 1) as update:

        def report(progress: Any, stage: str = "") -> None:
            end_with_parent()
            update(progress.done, progress.total, f"{progress.refused} refused {stage}")

        # after several workers: what those that died left
        if stages:
            staged = runs.run_stages(loaded, data, out, stages, o["budget"], report=lambda s, p: report(p, s), **common)
            study, plan = staged.study, staged.plan
        else:
            study = run(o["trials"], report)
    if is_worker:
        return
    rows = runs.pareto_rows(study, loaded)
    if plan is not None and not as_json:
        _print(None, False, lambda: _plan_table(stages, plan))

    def table() -> Any:
        return _table(
            [*rows[0]][::-1],
            [[_cell(v) for v in list(r.values())[::-1]] for r in rows],
            f"Pareto set, {len(study.trials)} trials",
        )

    _print(rows, as_json, table)
    chosen = runs.best(study, loaded)
    runs.choose(out, chosen, "best first objective")
    if supernet is not None:
        import nasplat
        from nasplat.workflows.deliver import show

        example: Any = chosen.example_input
        certificate = nasplat.export(supernet.subnet(chosen), out / "best.onnx", example, task=data)
        if not as_json:
            click.echo(f"exported {out / 'best.onnx'}: largest relative error {certificate.max_relative_error:.1e}")
        if (o["exports"] or 1) > 1 or "latency" in common:
            with _progress("files", as_json) as update:
                files = runs.hand_over_front(
                    study, loaded, supernet, out, common.get("latency"), o["exports"] or 1, update
                )
            if not as_json:
                _print(None, False, lambda: _files_table(files, data.metric_name))
        show(out / "best.onnx", data, out / "pictures")
    from nasplat.runs import write_report

    page = write_report(out)
    if not as_json:
        click.echo(f"report {page}")


def _latency_words(predictor: Any) -> str:
    about = predictor.validation_
    return f"latency predictor, {about['networks']} networks timed, left out in turn: τ-b {about['tau']:.3f}, mean error {about['mape_percent']:.1f} %"


def _quality_words(about: dict[str, Any]) -> str:
    return (
        f"quality predictor, {about['networks']} pilots, each left out once: τ-b {about['kendall_tau']:.2f} (MACs alone {about['macs_tau']:.2f}), "
        f"mean absolute error {about['mean_absolute_error']:.3g} of {about['metric']}"
    )


def _files_table(rows: list[dict[str, Any]], metric: str) -> Any:
    cells = [
        [
            *(f"front/{r['name']}.onnx", _millions(r["params"]), _millions(r["macs"]), f"{r['searched']:.3f}"),
            *(f"{r[f'test {metric}']:.3f}", f"{r['mean_difference']:.1e}"),
            "" if r.get("predicted_ms") is None else f"{r['predicted_ms']:.2f}",
            f"{r['measured_ms']:.2f} [{r['measured_low_ms']:.2f}, {r['measured_high_ms']:.2f}]",
        ]
        for r in rows
    ]
    columns = [
        "file",
        "parameters",
        "MACs",
        "searched",
        f"test {metric}",
        "mean |torch − file|",
        "predicted ms",
        "measured ms",
    ]
    return _table(columns, cells, f"Files in ONNX Runtime, one example, {rows[0]['threads']} threads")


def _plan_table(stages: list[str], plan: Any) -> Any:
    """Who was asked how many networks, and why."""
    rows = zip(stages, plan.agreement, plan.costs, plan.counts, plan.shares, strict=True)
    cells = [
        [s, f"{tau:.2f}" if tau or cost else "no answers", f"{cost:.3g}", str(n) if n else "left out", f"{share:.0%}"]
        for s, tau, cost, n, share in rows
    ]
    columns = ["stage", "agreement τ-b", "seconds each", "networks planned", "share of the rest"]
    return _table(columns, cells, f"Plan after a pilot of {plan.pilots} networks that every stage evaluated")


def _worker_command(space: str, out: Path, options: dict[str, Any], extra: list[str]) -> list[str]:
    """The words of the same search with one worker."""
    words = ["search", space, "--out", str(out)]
    for name, value in options.items():
        option = "--" + {"supernet_run": "supernet", "latency_folder": "latency"}.get(name, name.replace("_", "-"))
        if isinstance(value, bool):
            words += [option] if value else []
            continue
        for v in value if isinstance(value, tuple) else () if value is None else (value,):
            words += [option, str(v)]
    return words + extra


def _cell(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


@cli.command(context_settings=EXTRA)
@click.argument("space")
@click.option(
    "--task",
    default="digits-clutter",
    show_default=True,
    help="Name, or a folder of IDX or npz files or pictures, or stereo:FOLDER; ?side=32 appends options.",
)
@click.option("-n", "n", default=30, show_default=True, help="Distinct networks to train.")
@click.option(
    "--architectures", type=click.File(), help="Label these, one encoding or JSON line each; - reads standard input."
)
@click.option("--seeds", default=1, show_default=True, help="Trainings of one network.")
@click.option(
    "--repeat", default=1.0, show_default=True, help="Share of the networks that get more than the first seed."
)
@limit_option
@click.option("--storage", default=None, help="Optuna storage URL or .journal file; default: beside the table.")
@click.option("--workers", default=1, show_default=True, help="Processes of one thread each.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--seed", default=0, show_default=True, help="Of the draws and of the first training.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Table to write, .csv.gz.")
@presets
@as_json
@click.pass_context
def label(context: click.Context, space: str, task: str, n: int, out: Path, as_json: bool, **o: Any) -> None:
    """Train random or given architectures of a space and write their labels. Further options: --budget.epochs=3 …

    The same command resumes after any interruption, and joins in from other machines when they share the storage.
    """
    from nasplat.task.training import Budget
    from nasplat.workflows.label import label as labelled

    loaded, _ = _load(space, o["preset"], task)
    given = None if o["architectures"] is None else [line.strip() for line in o["architectures"] if line.strip()]
    out.parent.mkdir(parents=True, exist_ok=True)
    with _progress("label", as_json) as update:
        table = labelled(
            loaded,
            task,
            n if given is None else min(n, len(given)),
            Budget(**_config(Budget, "budget", tuple(context.args))),
            _pairs(o["limit"]),
            o["storage"] or str(out.with_suffix("").with_suffix(".journal")),
            o["seed"],
            lambda p: update(p.done, p.total, str(p.trial.values)),
            architectures=given,
            seeds=o["seeds"],
            repeat=o["repeat"],
            workers=o["workers"],
            device=o["device"],
        )
    table.save(out)
    failed = sum(bool(row["failure"]) for row in table.rows)
    answer: dict[str, Any] = {"rows": len(table), "failed": failed, "file": str(out)}
    if o["seeds"] > 1:
        agreement, both = table.ceiling()
        answer |= {"seed_to_seed_kendall_tau": agreement, "networks_with_two_seeds": both}
    _print(answer, as_json, lambda: ", ".join(f"{k.replace('_', ' ')} {_cell(v)}" for k, v in answer.items()))


@cli.command(context_settings=EXTRA)
@click.argument("network")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the networks found; the same command resumes it.",
)
@click.option(
    "--cut", multiple=True, metavar="COST=SHARE", help="What must go: macs, params or latency_ms.  [default: macs=0.15]"
)
@click.option(
    "--keep",
    default=0.0,
    show_default=True,
    help="Loss allowed: of the task's metric, or of the predictor's score without task.",
)
@click.option("--task", default=None, help="Original and networks found are trained on it and judged; as for train.")
@click.option("--predictor", default="base", show_default=True, help="Name or folder of a trained predictor.")
@click.option("--rounds", default=12, show_default=True, help="Edits from the original at most.")
@click.option(
    "--finalists", default=8, show_default=True, help="Networks found at most; each is trained if there is a task."
)
@click.option("--device", default="cpu", show_default=True, help="Of the trainings.")
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Of the edits, the order of the data, and the initial values of an architecture.",
)
@input_shape
@as_json
@click.pass_context
def improve(context: click.Context, network: str, out: Path, as_json: bool, **o: Any) -> None:
    """Edit a network so that it costs less and is as good. Further options: --budget.epochs=3 …

    Edits of one operation, kernel, group of channels or stretch are judged by a predictor; with a task, original and finalists are trained from the
    weights they have. Each network found is written as drawing, ONNX file, and graph with weights.
    """
    import torch

    import nasplat
    from nasplat.inputs import resolve
    from nasplat.runs.improvement import Trainings, write_improvement
    from nasplat.task.training import Budget
    from nasplat.workflows.improve import Settings

    torch.manual_seed(o["seed"])
    module, shape = _buildable(resolve(network), _shape(o["shape"]))
    budget = Budget(**_config(Budget, "budget", tuple(context.args)))
    task = None if o["task"] is None else nasplat.load_task(o["task"])
    cut = {k: float(v) for k, v in _pairs(o["cut"]).items()} or None
    before = (
        None
        if task is None
        else Trainings(out, {"task": o["task"], "budget": dataclasses.asdict(budget), "seed": o["seed"]})
    )
    with _progress("improve", as_json) as update:
        found = nasplat.improve(
            *(
                module,
                shape,
                nasplat.load_predictor(o["predictor"]),
                cut,
                o["keep"],
                task and task.to(o["device"]),
                budget,
            ),
            *(Settings(rounds=o["rounds"], finalists=o["finalists"]), o["seed"], update),
            known=before and before.known,
            learnt=before and before.learnt,
        )
        rows = write_improvement(found, out, task)
    data = {"networks": rows, "judged": found.seen, "unbuildable_edits": found.unbuildable, "folder": str(out)}

    def table() -> Any:
        metric = [] if task is None else [f"{task.metric_name} decide", "test"]
        cells = []
        for row in rows:
            saved = f"{row['macs_saved']:.1%}" + (
                f", {row['latency_ms_saved']:.1%} ms" if "latency_ms_saved" in row else ""
            )
            interval = (
                "outside the support"
                if row["low"] is None
                else f"{row['predicted']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
            )
            own = [] if task is None else [_cell(row["decide"]), _cell(row["test"])]
            cells.append(
                [
                    row["name"],
                    f"{row['predicted_gain']:+.3g}",
                    interval,
                    _millions(row["macs"]),
                    saved,
                    _millions(row["params"]),
                    *own,
                    row["edits"],
                ]
            )
        return _table(
            ["network", "predicted gain", "predicted", "MACs", "saved", "parameters", *metric, "edits"], cells
        )

    _print(data, as_json, table)
    if not as_json:
        click.echo(f"{found.seen} networks judged; drawings, ONNX files and weights in {out}")


@cli.command()
@click.argument("network")
@click.argument("path", type=click.Path(path_type=Path))
@input_shape
@click.option("--check", is_flag=True, help="Compare an existing file with the network instead of writing one.")
@click.option("--seed", default=0, show_default=True, help="Of the initial values of an architecture.")
@as_json
def export(network: str, path: Path, shape: str | None, check: bool, seed: int, as_json: bool) -> None:
    """Write a network as ONNX with a certificate, if ONNX Runtime agrees with torch; fails closed."""
    import torch

    import nasplat
    from nasplat.frontends import OnnxFile
    from nasplat.inputs import resolve
    from nasplat.workflows.export import OnnxNetwork

    torch.manual_seed(seed)
    found = resolve(network)
    if check and isinstance(found, OnnxFile):
        module, given = OnnxNetwork(found.path), _shape(shape) or found.example_input
    else:
        module, given = _buildable(found, _shape(shape))
    if check:
        error = nasplat.check_export(module, path, given)
        _print({"max_relative_error": error}, as_json, lambda: f"{path} agrees: largest relative error {error:.2e}")
        return
    certificate = nasplat.export(module, path, given)
    _print(
        dataclasses.asdict(certificate),
        as_json,
        lambda: (
            f"{path}: {certificate.size_bytes:,} bytes, largest relative error {certificate.max_relative_error:.2e}, "
            f"sha256 {certificate.sha256[:16]}…"
        ),
    )


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Write report.html of a run folder: Pareto set, history, the chosen network, certificate, replay."""
    from nasplat.runs import write_report

    click.echo(str(write_report(run)))


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", default=None, type=click.Path(path_type=Path), help="Folder of the repetition; default RUN/replay."
)
@as_json
@click.pass_context
def replay(context: click.Context, run: Path, out: Path | None, as_json: bool) -> None:
    """Repeat a run with its recorded command, and say whether it ends the same."""
    from nasplat.runs import runs

    out = out or run / "replay"
    words = runs.with_out(runs.recorded(run), out)
    click.echo(f"{shlex.join(['nasplat', *words])}", err=True)
    before = sys.argv
    sys.argv = ["nasplat", *words]
    try:
        with redirect_stdout(sys.stderr):
            cli.main(args=words, standalone_mode=False, obj=context.obj)
    finally:
        sys.argv = before
    found = runs.compare(run, out)
    kind = "weights are equal, bit for bit" if "weights" in found else "trials are equal, values included"
    _print(found, as_json, lambda: f"{found['equal']} of {found.get('weights', found.get('trials'))} {kind}")


@cli.command()
@as_json
def doctor(as_json: bool) -> None:
    """Check the installation: versions, content, and one capture, prediction and rebuild."""
    from nasplat.runs.runs import diagnose

    rows = diagnose()
    _print(
        rows,
        as_json,
        lambda: _table(
            ["check", "result"], [[r["check"], ("ok " if r["ok"] else "FAILED ") + r["result"]] for r in rows]
        ),
    )
    if not all(r["ok"] for r in rows):
        sys.exit(1)


@cli.command()
@click.option("--out", default="demo-run", show_default=True, type=click.Path(path_type=Path), help="Run folder.")
@click.option("--seed", default=0, show_default=True)
@click.option("--fast", is_flag=True, help="A minute instead of five: fewer epochs, trials and rivals.")
@as_json
def demo(out: Path, seed: int, fast: bool, as_json: bool) -> None:
    """The whole way on embedded data: score, supernet, guided search, export, and a fair comparison."""
    from nasplat.runs.demo import FAST, FULL, run

    say = (lambda text: None) if as_json else click.echo
    result = run(out, seed, FAST if fast else FULL, say=say, progress=lambda what: _progress(what, as_json))
    if as_json:
        click.echo(json.dumps(result, indent=1, default=str))
