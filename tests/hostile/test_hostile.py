"""Every hostile input ends in its right value, or in an error of ours that says what is wrong; none runs anything."""

from __future__ import annotations

from pathlib import Path

import hostile_data as data
import hostile_networks as networks
import hostile_studies as studies
import pytest
from hostile_input import Hostile, Loaded

from nasplat.errors import NasplatError

pytestmark = pytest.mark.fast
EVERY = studies.HOSTILE | networks.HOSTILE | data.HOSTILE


def test_no_two_inputs_have_one_name() -> None:
    assert len(EVERY) == sum(len(room.HOSTILE) for room in (studies, networks, data))


@pytest.mark.parametrize("hostile", EVERY.values(), ids=EVERY.keys())
def test_a_hostile_input_is_read_right_or_refused_by_name(hostile: Hostile, tmp_path: Path) -> None:
    made = hostile.make(tmp_path)
    if hostile.refused:
        with pytest.raises(NasplatError, match=f"(?s){hostile.refused}") as caught:
            hostile.read(made)
        assert len(str(caught.value)) < 2_000
        assert "\n\n" not in str(caught.value)
    else:
        assert hostile.read(made) == hostile.value
    assert not Loaded.was
