"""A table of labelled architectures becomes what predictors learn from: one view and one label per computation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nasplat.editing import Edited
from nasplat.errors import TableError
from nasplat.features.view import View, view
from nasplat.frontends import collect_rarely
from nasplat.inputs import read_network
from nasplat.predict.abilities import ChoosesLabels
from nasplat.searchspace import Architecture
from nasplat.searchspace.registry import trusting
from nasplat.study.pool import pool
from nasplat.tables import splits
from nasplat.tables.table import Table

Progress = Callable[..., None]
"""Called with the number of steps done and of all steps, and perhaps with a note about the last one."""
TASK = "task"
"""Column that tells on which task a network was trained, in tables of several."""
FEW = 200
"""Number of captures below which starting processes takes longer than the captures."""


@dataclass(frozen=True)
class Labelled:
    """Distinct computations of a table, as predictors see them, with the mean label of each."""

    views: list[View]
    """What predictors see of each computation."""
    labels: list[float]
    """Mean label of each, in the table's unit."""
    keys: list[str]
    """Key of each computation's graph."""
    architectures: list[str]
    """Text of one architecture of each, the smallest; rows stand in its order."""
    networks: list[str] | None = None
    """Name of the network of each: computations of one function, as the space's `network_key` tells them, share it, and
    no split parts them. None where every computation is a network of its own."""
    left_out: int = 0
    """Number of rows of the table that have no finite label."""

    @property
    def groups(self) -> list[str]:
        """Rows that no split parts: equal for equal networks."""
        return self.architectures if self.networks is None else self.networks

    def take(self, numbers: Sequence[int]) -> Labelled:
        """Keep some rows.

        Args:
            numbers: Row numbers to keep, in the order wanted.

        Returns:
            Those rows.
        """
        columns = (self.views, self.labels, self.keys, self.architectures, self.networks)
        taken = (c if c is None else [c[i] for i in numbers] for c in columns)
        return Labelled(*taken, self.left_out)  # type: ignore[arg-type]


def distinct(
    table: Table,
    progress: Progress | None = None,
    workers: int = 1,
    seen: dict[Architecture, tuple[str, View]] | None = None,
) -> Labelled:
    """Capture every architecture of a table that has a finite label, and average rows whose graphs have equal keys.

    Args:
        table: Labelled architectures, loaded with a space.
        progress: Called with the number of networks captured and of all networks.
        workers: Number of processes that capture, each with one thread.
        seen: Key and view of architectures that were captured for another table; what is new is added to it.

    Returns:
        One row for each computation, in the order of the smallest text among its architectures.

    Raises:
        TableError: no label is finite, the table was loaded without a space, or its rows are of several tasks.
    """
    table = table.labelled()
    tasks = list(dict.fromkeys(row.get(TASK, "") for row in table.rows))
    if len(tasks) > 1:
        raise TableError(
            f"expected rows of one task, got {len(tasks)} in {table.source or 'the table'}, such as {tasks[0]!r} and "
            f"{tasks[1]!r}: labels of different tasks cannot be averaged.\n  Choose one: --where {TASK}={tasks[0]}, or "
            f"where={{{TASK!r}: {tasks[0]!r}}} in load_table."
        )
    members: dict[Architecture, list[float]] = {}
    text: dict[Architecture, str] = {}
    for architecture, row, value in zip(table.architectures, table.rows, table.labels, strict=True):
        canonical = architecture.canonical()
        members.setdefault(canonical, []).append(value)
        text.setdefault(canonical, row[table.key])
    found: dict[str, tuple[View, list[float], list[tuple[str, str]]]] = {}
    known = {} if seen is None else seen
    new = [a for a in members if a not in known]
    for i, (architecture, pair) in enumerate(zip(new, _captured(new, workers), strict=True)):
        known[architecture] = pair
        if progress:
            progress(i + 1, len(new))
    for architecture, values in members.items():
        key, sight = known[architecture]
        _, labels, names = found.setdefault(key, (sight, [], []))
        labels.extend(values)
        names.append((text[architecture], architecture.network_key))
    # ordered by encoding, not by key: a new version of the vocabulary changes keys, and must not change any split
    order = sorted(found, key=lambda k: min(found[k][2]))
    means = [sum(found[k][1]) / len(found[k][1]) for k in order]
    texts = {k: min(found[k][2])[0] for k in order}
    pairs = [(k, network) for k in order for _, network in found[k][2]]
    networks = splits.together([texts[k] for k, _ in pairs], [network for _, network in pairs])
    named = {k: network for (k, _), network in zip(pairs, networks, strict=True)}
    return Labelled(
        [found[k][0] for k in order], means, order, list(texts.values()), [named[k] for k in order], table.left_out
    )


def split(data: Labelled, seed: int, shares: tuple[float, float] = (0.8, 0.1)) -> tuple[Labelled, Labelled, Labelled]:
    """Divide labelled computations into disjoint parts, so that no network is in two of them.

    Computations with equal graph keys are one row already; those of one function, as the space's `network_key` tells
    them, stay together.

    Args:
        data: Labelled computations to divide.
        seed: Seed of the division; equal seeds give equal parts, for every predictor.
        shares: Share of the networks to train on and to decide on; the rest is for the test.

    Returns:
        The parts to train on, to decide on and to test on.
    """
    train, decide, test = (data.take(rows) for rows in splits.by_shares(data.groups, seed, shares))
    return train, decide, test


def few(data: Labelled, n: int, seed: int, chooser: ChoosesLabels | None = None) -> tuple[Labelled, Labelled]:
    """Take a few rows and leave the rest; what computes the same as one of the few is in neither.

    Args:
        data: Labelled computations to take from.
        n: Number of rows to take.
        seed: Seed of the draw, which is the same for every predictor.
        chooser: Predictor that says which networks it would have labelled; None takes random ones.

    Returns:
        The few rows and the others.
    """
    first = () if chooser is None else chooser.choose(data.views, n, seed)
    taken, left = splits.by_number(len(data.labels), n, seed, first, data.groups)
    return data.take(taken), data.take(left)


def _captured(members: list[Architecture], workers: int) -> Iterator[tuple[str, View]]:
    """Key and view of each architecture, in their order."""
    can_be_found = all(m.space.is_shipped or ".py" in m.space.name for m in members)
    if workers < 2 or len(members) < FEW or not can_be_found:
        yield from map(_see, members)
        return
    with pool(workers, collect_rarely) as processes:
        yield from processes.imap(_see_line, [m.to_json() for m in members], chunksize=16)


def _see(architecture: Architecture | Edited) -> tuple[str, View]:
    graph = architecture.graph()
    return graph.key, view(graph)


def _see_line(line: str) -> tuple[str, View]:
    with trusting():  # a network that the calling process holds
        return _see(read_network(line))
