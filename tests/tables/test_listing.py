"""One table, three ways to show it."""

from __future__ import annotations

import pytest

from nasplat.errors import TableError
from nasplat.tables.listing import Listing

pytestmark = pytest.mark.fast

SHOWN = Listing(["network", "MACs", "interval"], [["a|b", "≥ 1,200", "[1.0, 2.0]"], ["<c>", "-", ""]], "Two networks")


def test_numbers_stand_right_and_text_left() -> None:
    assert SHOWN.is_number == [False, True, True]
    assert "| --- | ---: | ---: |" in SHOWN.markdown()


def test_markdown_and_html_escape_their_own() -> None:
    assert "a\\|b" in SHOWN.markdown()
    assert "&lt;c&gt;" in SHOWN.html()
    assert SHOWN.html().count("<tr>") == 3
    assert "<caption>Two networks</caption>" in SHOWN.html()


def test_empty_columns_are_left_out() -> None:
    assert Listing(["a", "b"], [["1", ""], ["2", ""]]).told().columns == ["a"]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(TableError, match="expected 2 cells"):
        Listing(["a", "b"], [["1"]])
