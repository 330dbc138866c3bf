"""A study goes on with the space that it is of, wherever that lies, and refuses another one with what changed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from torch import nn

import nasplat
from nasplat.errors import SearchError, SpaceError, SpaceWarning
from nasplat.study.claims import FINGERPRINT, SPACE
from nasplat.study.search import architectures, table_of

pytestmark = pytest.mark.fast


def width(architecture: nasplat.Architecture) -> float:
    return float(architecture.choices["w"])


def mine(
    options: tuple[Any, ...] = (4, 8, 16), kernel: int = 3, choice: str = "w", make: Callable[..., Any] = nn.Conv2d
) -> nasplat.Space:
    """Space of one choice, of a closure that every test changes."""

    @nasplat.space(example_input=(1, 3, 8, 8))
    def mine(pick: nasplat.Pick, bias: bool = True) -> nn.Module:
        return nn.Sequential(make(3, pick(choice, options), kernel, bias=bias), nn.ReLU())

    return mine


def edited() -> nasplat.Space:
    """The same networks, by other code."""

    @nasplat.space(example_input=(1, 3, 8, 8))
    def mine(pick: nasplat.Pick, bias: bool = True) -> nn.Module:
        chosen = pick("w", (4, 8, 16))
        return nn.Sequential(nn.Conv2d(3, chosen, 3, bias=bias), nn.ReLU(), nn.Dropout(0.1))

    return mine


def begun(space: nasplat.Space, trials: int = 3) -> Any:
    storage = optuna.storages.InMemoryStorage()
    nasplat.search(space, maximize=[width], minimize=["params"], n_trials=trials, storage=storage)
    return storage


def go_on(space: nasplat.Space, storage: Any, trials: int = 3) -> optuna.Study:
    return nasplat.search(space, maximize=[width], minimize=["params"], n_trials=trials, storage=storage)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (mine((4, 8, 16, 32)), r"'w' with options \(4, 8, 16\), got \(4, 8, 16, 32\) \(32 came\)"),
        (mine((4, 8)), r"got \(4, 8\) \(16 went\)"),
        (mine((8, 4, 16)), "in another order"),
        (mine((4, 8, 17)), "17 came and 16 went"),
        (mine(choice="v"), "does not have any more"),
        (mine(kernel=5), "was a network of .* MACs .* and is now another one"),
        (mine(make=nn.ConvTranspose2d), "is now another one"),
        (mine(make=lambda *_, **__: nn.Linear(8, 8)), "is now another one"),
        (mine(make=lambda *_, **__: nn.Linear(9, 8)), "does not build any more"),
        (mine().with_presets(bias=False), "has space 'mine{}', got 'mine{\"bias\": false}'"),
    ],
)
def test_a_study_of_another_space_is_refused_with_what_changed(space: nasplat.Space, message: str) -> None:
    storage = begun(mine())
    with pytest.raises(SearchError, match=message):
        go_on(space, storage, trials=4)


def test_other_code_of_the_same_networks_goes_on_with_a_warning() -> None:
    storage = begun(mine(), trials=2)
    with pytest.warns(SpaceWarning, match="2 finished networks are the same computations"):
        study = go_on(edited(), storage)
    assert len(study.trials) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(go_on(edited(), storage).trials) == 3  # it is the study's own now
    assert {a.space for a, _ in architectures(study, edited())} == {edited()}
    assert {a.space for a in table_of(study, edited()).architectures} == {edited()}
    with pytest.raises(SpaceError, match="with other code"):
        architectures(study, mine(kernel=5))
    with pytest.raises(SpaceError, match="with other code"):
        _ = table_of(study, mine(kernel=5)).architectures


def test_a_study_without_a_fingerprint_goes_on_and_gets_one() -> None:
    storage = begun(mine(), trials=2)
    study = optuna.load_study(study_name="nasplat", storage=storage)
    storage._studies[study._study_id].user_attrs.pop(FINGERPRINT)  # as an older nasplat left it
    with pytest.raises(SearchError, match="32 came"):
        go_on(mine((4, 8, 16, 32)), storage)
    assert len(go_on(mine(), storage).trials) == 3
    assert study.user_attrs[FINGERPRINT] == mine().fingerprint


def test_the_same_file_under_another_path_goes_on(tmp_path: Path) -> None:
    text = (
        "import nasplat\nfrom torch import nn\n@nasplat.space(example_input=(1, 4))\n"
        "def net(pick):\n    return nn.Linear(4, pick('w', (4, 8, 16)))\n"
    )
    spaces = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(f"# lies {name}\n{text}")
        spaces.append(nasplat.load_space(str(tmp_path / name / "net.py")))
    storage = begun(spaces[0], trials=2)
    study = go_on(spaces[1], storage)
    assert len(study.trials) == 3
    assert study.user_attrs[SPACE] == spaces[0].reference
    assert len(architectures(study)) == len(architectures(study, spaces[1]))
