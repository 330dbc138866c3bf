"""`label_across`: networks of many spaces are trained on many tasks by one recipe; the table resumes and is shared out.

Every space that fits a task gives it the same number of random networks. Some of them stand on the next task too, and
some are edited, so that they belong to no space any more. A row keeps the network, what it reached on the way and at
the end, and what could be known of it before: counts, and zero-cost proxies on a batch of the task.

The plan of a cell, one space on one task, follows from the call alone and is kept in the study, so that any number of
processes may die, come back, and find the jobs that they left.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any
from urllib.parse import parse_qsl

import optuna
import torch
from optuna.trial import TrialState

from nasplat.editing import Edited, edits
from nasplat.editing.edited import EDITS
from nasplat.errors import EditError, InputError, NasplatError, SearchError, SpaceError
from nasplat.inputs import load_task, read_network
from nasplat.probes.zerocost import PROXIES, proxies
from nasplat.searchspace import Architecture, Space, load_space
from nasplat.searchspace.registry import trusting
from nasplat.study.captured import facts_of
from nasplat.study.claims import claim
from nasplat.study.limits import Limits, draw_distinct
from nasplat.study.pool import one_thread
from nasplat.study.search import Progress
from nasplat.study.storage import open_storage
from nasplat.tables.spreadsheets import plain_number
from nasplat.tables.table import Table
from nasplat.task import Split, Task
from nasplat.task.settings import Check, overridden
from nasplat.task.training import Budget, train
from nasplat.workflows.jobs import Job, finished, holds, share_out, work

NAME = "label across"
"""Name of the study in its storage."""
RECIPE, TASK = "recipe", "task "
"""User attribute of the study that holds the recipe, and the beginning of those that hold the data of a task."""
STEPS = Budget(batch_size=32, lr=2e-3, steps=300)
"""Budget of a training where none is given: steps, so that tasks with little and with much data get the same."""
MOST_EDITS, EDIT_ATTEMPTS = 3, 60
"""Edits of an edited network, at most, and edits that are tried to get there."""
BATCH = 32
"""Examples on which proxies are computed."""
COLUMNS = (
    *("architecture", "task", "network", "fingerprint", "key", "macs", "params", "seed", "metric", "decide", "test"),
    *("cpu_seconds", "failure", "data", "recipe"),
)
"""Columns of every row, before those of proxies and of the curve."""
TEXTS = ("fingerprint", "key")
"""Columns that a training finds and that are no numbers."""
COUNTS = ("macs", "params")
"""Columns of whole numbers."""
_TOLD = ("architecture", "task", "network", "seed", "metric", "data", "recipe")
"""Columns that are known before a training."""


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
class _Entry:
    """A training: which network, on which task, with which seed."""

    task: str
    """Name of the task."""
    network: str
    """Name of the network, the same on every task."""
    line: str
    """The network as a line of JSON."""
    seed: int

    @property
    def name(self) -> str:
        """Name of the job."""
        return f"{self.network} on {self.task} seed {self.seed}"


def label_across(
    spaces: Sequence[str],
    tasks: Sequence[str],
    budget: Budget | None = None,
    settings: AcrossSettings | None = None,
    **overrides: Any,
) -> Table:
    """Train networks of many spaces from scratch on many tasks, and keep what is known of each before and after.

    Args:
        spaces: Spaces by name or path, with presets behind a question mark where they are wanted, such as
            'nasbench201?width=4&cells=1'; each task decides image side, channels and classes.
        tasks: Tasks by name or folder, as `load_task` reads them; larger metrics are better.
        budget: Recipe of all trainings; None for `STEPS`.
        settings: How networks are drawn, shared, edited and judged; None for the defaults.
        overrides: Fields of `AcrossSettings` that replace those of the settings, such as n=2.

    Returns:
        One row for each training, in the order of the plan, with the columns that `read_across` lists.

    Raises:
        SearchError: the storage holds labels of another recipe or other data, a task has two meanings or smaller
            metrics that are better, or a setting is outside its range.
        SpaceError: no space fits any task.

    Example:
        >>> tasks = ["shapes?train=64&decide=32&test=32", "digits-clutter?train=64&decide=32&test=32"]
        >>> budget = Budget(batch_size=16, steps=4)
        >>> table = label_across(["mlp"], tasks, budget, n=2, edited=0, repeat=0)
        >>> [row["task"] for row in table.rows]
        ['shapes', 'digits-clutter', 'shapes', 'digits-clutter']
    """
    chosen = overridden(settings or AcrossSettings(), overrides, SearchError)
    budget = budget or STEPS
    study = optuna.create_study(
        storage=open_storage(chosen.storage),
        study_name=NAME,
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=chosen.seed),
        load_if_exists=True,
    )
    data = _Data(tasks, chosen.judged, chosen.device)
    told = {f"{TASK}{name}": repr(task) for name, task in data.tasks.items()}
    recipe = {**asdict(budget), "judged": chosen.judged}
    claim(study, {RECIPE: ", ".join(f"{k}={v}" for k, v in recipe.items()), **told})
    if chosen.known is not None:
        _adopt(study, chosen.known)
    entries = _Plan(study, spaces, data, chosen).entries()
    if chosen.workers > 1:
        if not isinstance(chosen.storage, str):
            raise SearchError(
                f"{chosen.workers} workers expected a storage URL or file, got {chosen.storage!r}.\n  Or workers=1."
            )
        shared = _Shared(tuple(tasks), chosen.judged, chosen.device, budget, chosen.storage, tuple(entries.values()))
        share_out(study, entries, _processes(chosen.workers, shared), chosen.report)
    with _computing_with_one_thread(chosen.device):  # after several workers: what those that died left
        work(study, _jobs_of(entries), lambda trial: _labelled(trial, entries, data, budget), chosen.report)
    return read_across(study, entries)


# -- the plan ----------------------------------------------------------------------------------------------------------


class _Data:
    """The tasks of a labelling by their names, judged on as many examples as is asked for; loaded once."""

    def __init__(self, references: Sequence[str], judged: int, device: str) -> None:
        self.references, self.judged, self.device = references, judged, device

    @cached_property
    def tasks(self) -> dict[str, Task]:
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


def _adopt(study: optuna.Study, known: Table) -> None:
    """Add rows of a table to the study as finished trials, where their job is open.

    Raises:
        SearchError: a row has another recipe, or a task other data.
    """
    held = {t.user_attrs.get("job") for t in study.get_trials(deepcopy=False) if holds(t)}
    for row in known.rows:
        there = {RECIPE: row.get("recipe"), f"{TASK}{row['task']}": row.get("data")}
        for name, value in there.items():
            if study.user_attrs.get(name, value) != value:
                raise SearchError(
                    f"expected known rows with {name} {study.user_attrs[name]!r}, got {value!r}.\n"
                    "  Label with other settings into a table of its own."
                )
        entry = _Entry(row["task"], row["network"], row["architecture"], int(row["seed"]))
        if entry.name in held or there[f"{TASK}{entry.task}"] is None:
            continue
        about: dict[str, Any] = {"job": entry.name, **_about(entry)}
        about["row"] = {
            k: v if k in TEXTS else int(v) if k in COUNTS else plain_number(v)
            for k, v in row.items()
            if v and k not in _TOLD and k != "failure"
        }
        value: Any = about["row"].get("decide")
        if value is None:
            about |= {"failure": row["failure"], "traceback": "of an earlier study"}
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.FAIL if value is None else TrialState.COMPLETE, value=value, user_attrs=about
            )
        )


class _Plan:
    """Networks of every cell; what has been drawn is kept in the study."""

    def __init__(self, study: optuna.Study, spaces: Sequence[str], data: _Data, asked: AcrossSettings) -> None:
        self.study, self.spaces, self.data, self.asked = study, spaces, data, asked
        self.kept: dict[str, Any] = dict(study.user_attrs)
        self.limits = Limits.of(dict(asked.limits))

    def entries(self) -> dict[str, _Entry]:
        """All trainings by the names of their jobs: one of each cell with its other seeds, then the next of each."""
        cells = self._cells()
        rounds = [list[_Entry]() for _ in range(max(map(len, cells.values()), default=0))]
        for (task, _), members in cells.items():
            for number, (network, line) in enumerate(members):
                rounds[number].append(_Entry(task, network, line, self.asked.seed))
        found: dict[str, _Entry] = {}
        for entries in rounds:
            again = [e for e in entries if random.Random(f"{e.name} again").random() < self.asked.repeat]
            more = [replace(e, seed=e.seed + s) for s in range(1, self.asked.seeds) for e in again]
            found |= {e.name: e for e in (*entries, *more)}
        return found

    def _cells(self) -> dict[tuple[str, str], list[tuple[str, str]]]:
        """Name and line of the networks of each cell, by task and space."""
        fitting = {t: [s for s in self.spaces if self._space(s, t) is not None] for t in self.data.tasks}
        if not any(fitting.values()):
            raise SpaceError(
                f"expected spaces that fit one of {', '.join(self.data.tasks)}, got {', '.join(self.spaces)}.\n"
                "  See `nasplat spaces`."
            )
        found: dict[tuple[str, str], list[tuple[str, str]]] = {}
        before: dict[str, list[tuple[str, str]]] = {}  # what was drawn for the task on which a space stood last
        for task, spaces in fitting.items():
            for space in spaces:
                n = max(self.asked.n, ceil(self.asked.each_task / len(spaces)))
                wanted = ceil(n * self.asked.shared / (1 + self.asked.shared))
                guests = self._guests(space, task, before.get(space, []), wanted)
                before[space] = self._drawn(space, task, n - len(guests))
                found[task, space] = before[space] + guests
        order = [(task, space) for space in self.spaces for task in fitting if space in fitting[task]]
        return {cell: found[cell] for cell in order}

    def _space(self, text: str, task: str) -> Space | None:
        """The space as a task shapes it; None where its networks do not fit the task."""
        known = self.kept.get(f"space {text} on {task}")
        space, data = _space_of(text), self.data.tasks[task]
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
        name = f"networks {text} on {task} limits {json.dumps(self.asked.limits)} edited {self.asked.edited}"
        lines: list[str] = self.kept.get(name, [])
        if len(lines) < n:
            space, members = self._space(text, task), list[Architecture]()
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
        return [(f"{text} {i} of {task}", line) for i, line in enumerate(lines[:n])]

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
        space = self._space(text, task)
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


# -- taking jobs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shared:
    """What every process is given: where tasks come from, what is to be done, and where it is kept."""

    tasks: tuple[str, ...]
    judged: int
    device: str
    budget: Budget
    storage: str
    entries: tuple[_Entry, ...]


def _jobs_of(entries: Mapping[str, _Entry]) -> dict[str, Job]:
    return {name: Job(_about(entry)) for name, entry in entries.items()}


def _about(entry: _Entry) -> dict[str, Any]:
    return {"task": entry.task, "network": entry.network, "line": entry.line, "seed": entry.seed}


def _labelled(trial: optuna.Trial, entries: Mapping[str, _Entry], data: _Data, budget: Budget) -> float:
    """What the network of a job reaches on the decide split; the trial keeps everything else in one attribute."""
    entry = entries[trial.user_attrs["job"]]
    task, network = data.tasks[entry.task], read_network(entry.line)
    facts = facts_of(network)  # type: ignore[arg-type]
    row: dict[str, Any] = {"fingerprint": network.space.fingerprint, "key": facts.key}
    row |= {"macs": facts.macs, "params": facts.params}
    trial.set_user_attr("row", row)  # a training that fails keeps the counts
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(entry.seed)
        module = network.build().to(task.train.x.device)
    row |= _foreseen(module, task, entry.seed)
    done = train(module, task, budget, entry.seed, lambda *_: None, time.process_time)
    row |= {"decide": done.decide, "test": done.test, "cpu_seconds": done.seconds}
    for point in done.curve:
        row |= {f"decide_{point.step}": point.decide, f"cpu_seconds_{point.step}": point.seconds}
    trial.set_user_attr("row", row)
    return done.decide


def _foreseen(module: torch.nn.Module, task: Task, seed: int) -> dict[str, float]:
    """Zero-cost proxies on the first examples of the training, with the seconds of each; none for other than logits."""
    x, y = next(iter(task.epoch(seed * 100_003 + 1, BATCH)))
    found: dict[str, float] = {}
    for name in PROXIES:
        before = time.process_time()
        with suppress(InputError):
            found[name] = proxies(module, tuple(x.shape), [name], (x, y), seed=seed)[name]
            found[f"cpu_seconds_{name}"] = time.process_time() - before
    return found


@contextmanager
def _computing_with_one_thread(device: str) -> Iterator[None]:
    """Let torch compute with one thread on a CPU, so that seconds compare; a GPU is left alone."""
    before = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processes(workers: int, shared: _Shared) -> list[Any]:
    """Processes that take jobs, started with one thread each."""
    with one_thread():
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=_worker, args=(shared,), daemon=True) for _ in range(workers)]
        for process in processes:
            process.start()
    return processes


def _worker(shared: _Shared) -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    entries, data = {e.name: e for e in shared.entries}, _Data(shared.tasks, shared.judged, shared.device)
    study = optuna.load_study(
        storage=open_storage(shared.storage), study_name=NAME, sampler=optuna.samplers.RandomSampler(seed=0)
    )
    with suppress(KeyboardInterrupt), trusting():  # networks that the calling process holds
        work(study, _jobs_of(entries), lambda trial: _labelled(trial, entries, data, shared.budget))


# -- the table ---------------------------------------------------------------------------------------------------------


def read_across(study: optuna.Study, entries: Mapping[str, Any] | None = None) -> Table:
    """Read the labels that a study holds.

    Args:
        study: Study that `label_across` made.
        entries: Trainings to read first, by the names of their jobs and in their order; others that the study holds
            follow in the order of their names.

    Returns:
        A table with the columns architecture (line of JSON, perhaps with edits; `nasplat.read_network` reads
        it), task, network (its name, equal on every task), key, macs, params, seed, metric (its name), decide and test
        (what was reached, in the metric's unit), cpu_seconds of the training without evaluations, failure (the error's
        first line), data (of the task) and recipe; each proxy with its cpu_seconds_…; the learning curve on the decide
        split, decide_STEP, and the cpu_seconds_STEP until there.
    """
    ended = finished(study)
    order = [n for n in entries or () if n in ended] + sorted(ended.keys() - set(entries or ()))
    rows = []
    for name in order:
        about = ended[name].user_attrs
        told = {"architecture": about["line"], "task": about["task"], "network": about["network"]}
        data = str(study.user_attrs.get(f"{TASK}{about['task']}", ""))
        told |= {"seed": str(about["seed"]), "failure": about.get("failure", ""), "data": data}
        told |= {"metric": data.rpartition(", ")[2].rstrip(")"), "recipe": study.user_attrs[RECIPE]}
        rows.append(told | {k: _cell(v) for k, v in about.get("row", {}).items()})
    steps = sorted({int(c[7:]) for row in rows for c in row if c[:7] == "decide_"})
    curve = [f"{what}_{step}" for what in ("decide", "cpu_seconds") for step in steps]
    columns = (*COLUMNS, *PROXIES, *(f"cpu_seconds_{p}" for p in PROXIES), *curve)
    whole = tuple({c: row.get(c, "") for c in columns} for row in rows)
    return Table(whole, "decide", "architecture", study.study_name, read_network)


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else f"{value:.6g}"


def agreement(table: Table) -> dict[str, tuple[float, int]]:
    """Measure per task how well two trainings of the same networks agree: no predictor can be expected to rank better.

    Args:
        table: Rows of `label_across`.

    Returns:
        Rank agreement (tau-b) of what the first and the second training reached on the test split, and the number of
        networks that have both, by task; nan where there are fewer than two.
    """
    tasks = dict.fromkeys(row["task"] for row in table.rows)
    parts = {t: table.take([i for i, row in enumerate(table.rows) if row["task"] == t]) for t in tasks}
    return {t: replace(part, metric="test", key="network").ceiling() for t, part in parts.items()}
