"""Which networks of which spaces stand on which tasks: the plan of `label_across`, which follows from the call alone.

Every space that fits a task gives it the same number of random networks. Some of them stand on the next task too, and
some are edited. What has been drawn is kept in the study, for drawing means capturing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any
from urllib.parse import parse_qsl

import optuna
import torch

from nasplat.editing import Edited, edits
from nasplat.editing.edited import EDITS
from nasplat.errors import EditError, NasplatError, SearchError, SpaceError
from nasplat.inputs import load_task
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.study.limits import Limits, draw_distinct
from nasplat.study.search import Progress
from nasplat.tables.table import Table
from nasplat.task import Split, Task
from nasplat.task.settings import Check

MOST_EDITS, EDIT_ATTEMPTS = 3, 60
"""Edits of an edited network, at most, and edits that are tried to get there."""


@dataclass(frozen=True)
class AcrossSettings:
    """How networks are drawn, shared between tasks, edited, trained and judged."""

    n: int = 6
    """Number of networks of each space on each task that it fits, at least 1."""
    each_task: int = 0
    """Number of networks of each task, at least; where few spaces fit a task, they give more than n."""
    limits: Mapping[Any, float] = field(default_factory=dict)
    """Largest allowed cost of a network by name, such as {"macs": 4e6}; a space that has none is left out."""
    shared: float = 0.3
    """Share of the networks, from 0 to 0.9, that stand on two tasks."""
    edited: float = 0.2
    """Share of the networks, from 0 to 0.9, that are edited."""
    seeds: int = 1
    """Number of trainings of a network that is trained again, with other initial values and another order of data."""
    repeat: float = 1.0
    """Share of the networks, from 0 to 1, that get more than the first of the seeds."""
    judged: int = 1000
    """Examples of the decide and of the test split that are used, at most."""
    seed: int = 0
    """Seed of the draws, and of the first training of a network."""
    storage: Any = None
    """Where the study lives, as a path, URL or Optuna storage; None keeps it in memory."""
    report: Callable[[Progress], None] | None = None
    """Called after each training."""
    tell: Callable[[str], None] | None = None
    """Called with a sentence for each cell that is planned."""
    known: Table | None = None
    """Earlier rows of the same recipe and data, such as the table of a study that is lost; they are not trained
    again."""
    workers: int = 1
    """Number of processes of one thread each that train."""
    device: str = "cpu"
    """Torch device to train on."""

    def __post_init__(self) -> None:
        """Refuse values of the wrong type or outside their range, by name."""
        check = Check(self, SearchError).types().within("n", "seeds", "judged", "workers", least=1)
        check.within("each_task", least=0).within("shared", "edited", least=0, most=0.9)
        check.within("repeat", least=0, most=1)


@dataclass(frozen=True)
class Entry:
    """A training: which network, on which task, with which seed."""

    task: str
    """Name of the task."""
    network: str
    """Name of the network, the same on every task."""
    line: str
    """The network as a line of JSON."""
    seed: int
    """Seed of the training."""

    @property
    def name(self) -> str:
        """Name of the job."""
        return f"{self.network} on {self.task} seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, which a trial keeps.

        Returns:
            The fields by name.
        """
        return asdict(self)


class Tasks:
    """The tasks of a labelling, judged on as many examples as is asked for; loaded once."""

    def __init__(self, references: Sequence[str], judged: int, device: str) -> None:
        """Say which tasks are meant; nothing is loaded yet.

        Args:
            references: Names or folders, as `load_task` reads them.
            judged: Examples of the decide and of the test split, at most.
            device: Torch device of the data.
        """
        self.references, self.judged, self.device = references, judged, device

    @cached_property
    def by_name(self) -> dict[str, Task]:
        """The tasks by their names.

        Raises:
            SearchError: two tasks have one name, or smaller metrics of a task are better.
        """
        found: dict[str, Task] = {}
        for reference in self.references:
            task = load_task(reference)
            if task.name in found:
                raise SearchError(
                    f"expected tasks of different names, got {task.name!r} twice.\n"
                    "  Label them into tables of their own."
                )
            if not task.larger_is_better:
                raise SearchError(
                    f"expected tasks whose larger metrics are better, got {task.name!r} with {task.metric_name}.\n"
                    "  Label it by itself: nasplat label SPACE --task …"
                )
            found[task.name] = replace(
                task, decide=_some(task.decide, self.judged), test=_some(task.test, self.judged)
            ).to(self.device)
        return found


def _some(split: Split, most: int) -> Split:
    """At most so many examples of a split, always the same."""
    if len(split) <= most:
        return split
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:most].sort().values
    return Split(split.x[order], split.y[order])


class Plan:
    """Networks of every cell, which is one space on one task; what has been drawn is kept in a study."""

    def __init__(self, study: optuna.Study, spaces: Sequence[str], data: Tasks, asked: AcrossSettings) -> None:
        """Begin a plan, or go on with that of the study.

        Args:
            study: Study of the labelling.
            spaces: Spaces as for `label_across`.
            data: Tasks of the labelling.
            asked: How many networks are wanted, and which.
        """
        self.study, self.spaces, self.data, self.asked = study, spaces, data, asked
        self.kept: dict[str, Any] = dict(study.user_attrs)
        self.limits = Limits.of(dict(asked.limits))

    def entries(self) -> dict[str, Entry]:
        """List all trainings, each with its other seeds; every cell comes forward by the same share of its networks.

        Returns:
            Trainings by the names of their jobs, in the order in which they are done.

        Raises:
            SpaceError: no space fits any task.
        """
        placed = list[tuple[float, Entry]]()
        for (task, _), members in self._cells().items():
            for number, (network, line) in enumerate(members):
                placed.append(((number + 0.5) / len(members), Entry(task, network, line, self.asked.seed)))
        found: dict[str, Entry] = {}
        for _, entry in sorted(placed, key=lambda pair: pair[0]):
            is_again = random.Random(f"{entry.name} again").random() < self.asked.repeat
            for s in range(self.asked.seeds if is_again else 1):
                again = replace(entry, seed=entry.seed + s)
                found[again.name] = again
        return found

    def _cells(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """Name and line of the networks of each cell, by task and space."""
        fitting = self.fitting()
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        before: dict[str, list[tuple[str, str]]] = {}  # what was drawn for the task on which a space stood last
        for task, spaces in fitting.items():
            for space in spaces:
                n = self.asked_of(len(spaces))
                wanted = ceil(n * self.asked.shared / (1 + self.asked.shared))
                guests = self._guests(space, task, before.get(space, []), wanted)
                before[space] = self._drawn(space, task, n - len(guests))
                found[task, space] = _in_turn(before[space], guests)
        order = [(task, space) for space in self.spaces for task in fitting if space in fitting[task]]
        return {cell: found[cell] for cell in order}

    def fitting(self) -> dict[str, list[str]]:
        """Find the spaces that fit each task.

        Returns:
            Spaces by the name of the task.

        Raises:
            SpaceError: no space fits any task.
        """
        found = {t: [s for s in self.spaces if self.space(s, t) is not None] for t in self.data.by_name}
        if not any(found.values()):
            raise SpaceError(
                f"expected spaces that fit one of {', '.join(self.data.by_name)}, got {', '.join(self.spaces)}.\n"
                "  See `nasplat spaces`."
            )
        return found

    def asked_of(self, spaces: int) -> int:
        """Say how many networks of a space a task gets.

        Args:
            spaces: Number of spaces that fit the task.

        Returns:
            Number of networks of each of them.
        """
        return max(self.asked.n, ceil(self.asked.each_task / spaces))

    def space(self, text: str, task: str) -> Space | None:
        """Load a space as a task shapes it.

        Args:
            text: Space as for `label_across`.
            task: Name of the task.

        Returns:
            The space; None where its networks do not fit the task.
        """
        known = self.kept.get(f"space {text} on {task}")
        space, data = _space_of(text), self.data.by_name[task]
        if known is None:
            try:
                space = space.for_task(data)
                _check_answers(space, data)
                known = {"presets": space.presets, "refused": ""}
            except Exception as err:  # whatever a network raises on targets that are not its own
                known = {"presets": {}, "refused": f"{type(err).__name__}: {err}".partition("\n")[0]}
            self._keep(f"space {text} on {task}", known)
            if self.asked.tell is not None:
                self.asked.tell(f"space {text} on {task}: {known['refused'] or 'fits'}")
        return None if known["refused"] else load_space(space.name, **known["presets"])

    def _drawn(self, text: str, task: str, n: int) -> list[tuple[str, str]]:
        """Name and line of the first n networks that are drawn for a cell; some of them are edited."""
        drawn = {"limits": self.asked.limits, "edited": self.asked.edited, "seed": self.asked.seed}
        name = f"networks {text} on {task} {json.dumps(drawn)}"
        lines: list[str] = self.kept.get(name, [])
        if len(lines) < n:
            space, members = self.space(text, task), list[Architecture]()
            assert space is not None
            rng = random.Random(f"{self.asked.seed} {text} {task}")
            try:
                members = list(draw_distinct(space, n, rng, self.limits).values())
                reason = f"{len(members)} of {n} networks, there are no more"
            except SearchError as err:
                reason = str(err).partition("\n")[0]
            if len(members) < n and self.asked.tell is not None:
                self.asked.tell(f"space {text} on {task}: {reason}")
            lines = lines + [self._edited(m, i, task) for i, m in enumerate(members)][len(lines) :]
            self._keep(name, lines)
        drawn_by = f" by seed {self.asked.seed}" if self.asked.seed else ""
        return [(f"{text} {i} of {task}{drawn_by}", line) for i, line in enumerate(lines[:n])]

    def _edited(self, member: Architecture, number: int, task: str) -> str:
        """The line of a drawn network, edited where chance says so."""
        name = f"{self.asked.seed} {member} {number} {task}"
        rate = self.asked.edited * (1 + self.asked.shared)  # guests from other tasks, which fill up a cell, are not
        if random.Random(f"{name} edited").random() >= rate:
            return member.to_json()
        found = edited(member, random.Random(f"{name} edits"), self.limits)
        return member.to_json() if found is None else found.to_json()

    def _guests(self, text: str, task: str, others: list[tuple[str, str]], n: int) -> list[tuple[str, str]]:
        """The first n networks of another task, by name and line, that can be built, and are allowed, on this one."""
        found = list[tuple[str, str]]()
        space = self.space(text, task)
        assert space is not None
        for name, line in others:
            choices: dict[str, Any] = json.loads(line)
            if len(found) == n:
                break
            if EDITS in choices:
                continue
            with suppress(NasplatError):
                member = space.architecture(choices["choices"])
                if not self.limits.broken(member):
                    found.append((name, member.to_json()))
        return found

    def _keep(self, name: str, value: Any) -> None:
        self.study.set_user_attr(name, value)
        self.kept[name] = value


def _in_turn(own: list[Any], guests: list[Any]) -> list[Any]:
    """One after the other of both, so that a table that is not complete yet has both kinds."""
    pairs = [member for pair in zip(own, guests, strict=False) for member in pair]
    shorter = min(len(own), len(guests))
    return pairs + own[shorter:] + guests[shorter:]


def _space_of(text: str) -> Space:
    """The space that a text names, perhaps with presets behind a question mark."""
    name, _, words = text.partition("?")
    presets = {}
    for key, value in parse_qsl(words, keep_blank_values=True):
        try:
            presets[key] = json.loads(value)
        except json.JSONDecodeError:
            presets[key] = value
    return load_space(name, **presets)


def _check_answers(space: Space, task: Task) -> None:
    """Refuse a space whose networks answer something else than the task's targets."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = space.sample(seed=0).build().to(task.train.x.device)
    x, y = task.train.x[:2], task.train.y[:2]
    values = task.values(task.answer(module.eval(), x), y)
    task.objective(task.answer(module, x), y)
    if not torch.isfinite(values.float()).all():
        raise SpaceError(f"expected answers that {task.name} can judge, got {space!r}.\n  Take another space.")


def edited(member: Architecture, rng: random.Random, limits: Limits | None = None) -> Edited | None:
    """Edit a network at random, a few times, so that it leaves its space.

    Args:
        member: Network to edit.
        rng: Generator that decides the edits: first a kind, then one of that kind.
        limits: Largest allowed costs of the edited network; None for none.

    Returns:
        The edited network; None where none of `EDIT_ATTEMPTS` edits could be made.
    """
    allowed, wanted = limits or Limits.of(None), rng.randint(1, MOST_EDITS)
    found = Edited(member, ())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            network = found.network()
        except NasplatError:
            return None
        for _ in range(EDIT_ATTEMPTS):
            kinds: dict[str, list[Any]] = {}
            for edit in edits(network):
                kinds.setdefault(edit.kind, []).append(edit)
            if len(found.edits) == wanted or not kinds:
                break
            edit = rng.choice(kinds[rng.choice(sorted(kinds))])
            with suppress(EditError):
                tried = edit(network)
                more = Edited(member, (*found.edits, edit))
                if not allowed.broken(more):  # type: ignore[arg-type]
                    found, network = more, tried
    return found if found.edits else None


def pairs_across(
    spaces: Sequence[str], tasks: Sequence[str], settings: AcrossSettings
) -> tuple[list[tuple[Space, Task]], int]:
    """Find which spaces fit which tasks; nothing is drawn or trained.

    Args:
        spaces: Spaces as for `label_across`.
        tasks: Tasks as for `label_across`.
        settings: How many networks are asked for.

    Returns:
        Each space as a task shapes it with that task, and the number of trainings of all of them together, as if every
        space had as many networks inside the limits as it is asked for.

    Raises:
        SpaceError: no space fits any task.
    """
    data = Tasks(tasks, settings.judged, settings.device)
    plan = Plan(optuna.create_study(), spaces, data, settings)
    fitting, found, count = plan.fitting(), list[tuple[Space, Task]](), 0
    for task, names in fitting.items():
        count += len(names) * plan.asked_of(len(names)) if names else 0
        found += [(space, data.by_name[task]) for name in names if (space := plan.space(name, task)) is not None]
    return found, count + round(count * settings.repeat) * (settings.seeds - 1)
