"""A study writes down what it is of, and refuses to go on with something else: another space, or one that was edited.

A space that was edited is taken up where that is sound: where every choice has the options that it had, and every
network that has been tried is still the same computation. Values of other networks in one study would not compare.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from nasplat.errors import NasplatError, SearchError, SpaceWarning
from nasplat.searchspace import Architecture, Space
from nasplat.study.captured import facts_of

SPACE, FINGERPRINT = "space", "fingerprint"
"""User attributes of a study: the name and presets of its space, and the fingerprint."""

_ADVICE = (
    "  Choose another name or storage, or bring back the space of that time. To have its networks evaluated anew, "
    "enqueue their trial.params in the new study."
)


def claim(study: optuna.Study, mine: Mapping[str, str]) -> None:
    """Write down what the study is of, or check that it is of the same.

    Args:
        study: Study that may have been started earlier, or by another process.
        mine: User attributes of the study by name, such as {"task": "digits-clutter"}, which runs that share it must
            agree on.

    Raises:
        SearchError: the study was started with another value.
    """
    for key, value in mine.items():
        there = study.user_attrs.get(key)
        if there is None:
            study.set_user_attr(key, value)
        elif there != value:
            raise SearchError(
                f"study {study.study_name!r} in this storage has {key} {there!r}, got {value!r}.\n"
                "  Choose another name or storage."
            )


def claim_space(study: optuna.Study, space: Space) -> None:
    """Write down the space of a study, or check that its networks are those that the study has tried.

    Args:
        study: Study that may have been started earlier, or by another process.
        space: Space that the study goes on with; its name does not matter where its fingerprint is the study's, as
            for the same file under another path.

    Raises:
        SearchError: the study was started with another space, other presets, other options of a choice, or other
            networks for the same choices; the message says which.
    """
    there, before = study.user_attrs.get(SPACE), study.user_attrs.get(FINGERPRINT)
    if before == space.fingerprint:
        return
    if there is not None:
        claim(study, {SPACE: space.reference})
        tried = [t for t in study.get_trials(deepcopy=False) if t.params]
        _check_options(study, space, tried)
        if before is not None:
            _check_networks(study, space, tried, before)
    study.set_user_attr(SPACE, space.reference)
    study.set_user_attr(FINGERPRINT, space.fingerprint)


def members_of(study: optuna.Study, trials: Sequence[FrozenTrial], space: Space | None) -> list[Architecture]:
    """Return the networks that trials are about.

    Args:
        study: Study of the trials.
        trials: Trials that stand for a network.
        space: Space to read them in; None finds it by what the lines of the trials state.

    Returns:
        One architecture per trial. Of a study that goes on with this very space, whose code may have changed since
        some trials, they are members of the space.

    Raises:
        SpaceError: the trials are of other code, or their choices are not those of the space.
        TrustError: a line names a Python file that was not loaded here.
    """
    if space is not None and study.user_attrs.get(FINGERPRINT) == space.fingerprint:
        return [space.from_trial(t) if t.params else _told_member(t, space) for t in trials]
    return [_told_member(t, space) for t in trials]


def _told_member(trial: FrozenTrial, space: Space | None) -> Architecture:
    return Architecture.from_json(trial.user_attrs["architecture"], space)


def _check_options(study: optuna.Study, space: Space, tried: list[FrozenTrial]) -> None:
    """Refuse options of a choice that the study does not have: Optuna keeps them for good."""
    had: dict[str, tuple[object, ...]] = {}
    for trial in tried:
        had |= {n: d.choices for n, d in trial.distributions.items() if isinstance(d, CategoricalDistribution)}
    if not had:
        return
    left = set(had)
    for trial in tried:
        if not left & set(trial.params):
            continue
        try:
            space.architecture(trial.params)
        except NasplatError as err:
            wrong = next((n for n in trial.params if n in space.known and space.known[n] != tuple(had[n])), None)
            if wrong is None:
                raise SearchError(
                    f"study {study.study_name!r} tried a network that the space does not have any more (trial "
                    f"{trial.number}): {err}\n{_ADVICE}"
                ) from err
            raise _other_options(study, wrong, had[wrong], space.known[wrong]) from err
        left -= set(trial.params)
        for name in trial.params:
            if tuple(had[name]) != space.known[name]:
                raise _other_options(study, name, had[name], space.known[name])


def _other_options(study: optuna.Study, name: str, had: tuple[object, ...], has: tuple[object, ...]) -> SearchError:
    gained, lost = [o for o in has if o not in had], [o for o in had if o not in has]
    told = [f"{', '.join(map(repr, o))} {word}" for o, word in ((gained, "came"), (lost, "went")) if o]
    return SearchError(
        f"study {study.study_name!r} has choice {name!r} with options {tuple(had)}, got {tuple(has)} "
        f"({' and '.join(told) or 'in another order'}): the options of a choice are constant in a study.\n{_ADVICE}"
    )


def _check_networks(study: optuna.Study, space: Space, tried: list[FrozenTrial], before: str) -> None:
    """Refuse a space whose code has changed where a network that was tried has become another one."""
    finished = [t for t in tried if "key" in t.user_attrs and t.state in (TrialState.COMPLETE, TrialState.FAIL)]
    for trial in finished:
        was = tuple(trial.user_attrs.get(name) for name in ("key", "macs", "params"))
        try:
            facts = facts_of(space.architecture(trial.params))
        except Exception as err:  # whatever the new code raises
            raise SearchError(
                f"study {study.study_name!r} was started with other code of space {space.name!r}: the network of trial "
                f"{trial.number} does not build any more ({type(err).__name__}: {err}).\n{_ADVICE}"
            ) from err
        if (facts.key, facts.macs, facts.params) != was:
            raise SearchError(
                f"study {study.study_name!r} was started with other code of space {space.name!r} (hash "
                f"{before.partition('.')[0]}, now {space.fingerprint.partition('.')[0]}): trial {trial.number}, "
                f"{_told(trial)}, was a network of {was[1]:,} MACs and {was[2]:,} parameters, and is now another one "
                f"of {facts.macs:,} and {facts.params:,}. Old and new values would not compare.\n{_ADVICE}"
            )
    if finished:
        warnings.warn(
            f"the code of space {space.name!r} has changed since study {study.study_name!r} began. Its {len(finished)} "
            "finished networks are the same computations, so it goes on; what graphs do not show, such as dropout and "
            "initial values, was not compared.",
            SpaceWarning,
            stacklevel=2,
        )


def _told(trial: FrozenTrial) -> str:
    text = ", ".join(f"{k}={v!r}" for k, v in trial.params.items())
    return text if len(text) <= 80 else f"{text[:79]}…"
