"""Tables as people save them: every file is read as it was meant, or refused with its row and the remedy."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasplat.errors import NasplatError, TableError
from nasplat.tables import spreadsheets
from nasplat.tables.reading import read_table
from nasplat.tables.spreadsheets import numbers, unpacked
from nasplat.tables.table import Table

pytestmark = pytest.mark.fast

PLAIN = "arch,note,acc\r\na|b~0,first,93.25\r\nc|d~1,,91\r\n"


def loaded(tmp_path: Path, data: str | bytes, name: str = "t.csv", metric: str = "acc", **options: object) -> Table:
    (tmp_path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return read_table(tmp_path / name, metric, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace("\r\n", "\r"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", ";").replace(".", ","),
        PLAIN.replace(",", "\t").encode("utf-16"),
        b"\xfe\xff" + PLAIN.replace(",", "\t").encode("utf-16-be"),
        "sep=;\r\n" + PLAIN.replace(",", ";"),
        '"sep=|"\n' + "arch|note|acc\nx|first|93.25\ny||91\n",
        PLAIN.replace(",", " , "),
        PLAIN.replace("\r\n", ",,\r\n"),
        PLAIN.replace("\r\n", "\r\n\r\n,,\r\n"),
        "\n\n" + PLAIN,
        PLAIN.replace("arch", '"arch"').replace("a|b~0", '" a|b~0"'),
        PLAIN + ",,\r\n",
        PLAIN + "e|f~2,failed,n/a\r\ng|h~3,failed,#N/A\r\n",
        gzip.compress(PLAIN.encode("utf-8-sig"), mtime=0) + gzip.compress(b"i|j~4,,\n", mtime=0),
    ],
)
def test_a_table_reads_alike_however_a_spreadsheet_saved_it(tmp_path: Path, data: str | bytes) -> None:
    table = loaded(tmp_path, data)
    assert table.labels == [93.25, 91.0]
    assert [row["note"].strip() for row in table.rows] == ["first", ""]
    assert all(row[table.key] == row[table.key].strip() for row in table.rows)


def test_line_ends_and_delimiters_inside_quotes_belong_to_the_cell(tmp_path: Path) -> None:
    table = loaded(tmp_path, 'arch,note,acc\r"a","1, 2;\r3\t4",5\r')
    assert table.rows[0]["note"] == "1, 2;\r3\t4"


def test_a_column_without_a_name_gets_its_place(tmp_path: Path) -> None:
    table = loaded(tmp_path, ",arch,,acc\n0,a,x,1\n1,b,y,2\n")
    assert list(table.rows[1]) == ["column 1", "arch", "column 3", "acc"]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["93,2", "91"], [93.2, 91]),
        (["0,912", "0,905"], [0.912, 0.905]),
        (["1.093,5", "2,25", "1.000"], [1093.5, 2.25, 1000]),
        (["1,093.5", "2.25"], [1093.5, 2.25]),
        (["1,093,000", "12.5"], [1093000, 12.5]),
        (["1 093", "2\u202f500,5"], [1093, 2500.5]),
        (["1'093.5", "7"], [1093.5, 7]),
        (["\u22121,5", "2"], [-1.5, 2]),
        (["1,5e3", "nan"], [1500, float("nan")]),
        (["1.093", "2.5"], [1.093, 2.5]),
    ],
)
def test_numbers_of_a_column_share_one_style(cells: list[str], values: list[float]) -> None:
    assert numbers(list(enumerate(cells)), "acc", "t.csv") == pytest.approx(values, nan_ok=True)


def test_labels_of_a_decimal_comma_stay_what_was_read(tmp_path: Path) -> None:
    table = loaded(tmp_path, 'arch;ms\na;"1.234"\nb;0,5\n', metric="ms")
    assert table.labels == [1234.0, 0.5]
    table.save(tmp_path / "again.csv")
    assert read_table(tmp_path / "again.csv", "ms").content_hash == table.content_hash


def test_commas_that_can_mean_two_things_are_refused_but_behind_semicolons(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"t\.csv:2: .*'ms', got '1,234', which can be 1234 or 1\.234\.\n  Write dec"):
        loaded(tmp_path, 'arch,ms\na,"1,234"\nb,"2,500"\n', metric="ms")
    assert loaded(tmp_path, "arch;ms\na;1,234\nb;2,500\n", metric="ms").labels == [1.234, 2.5]


@pytest.mark.parametrize(
    "cell", ["=B2*100", "#DIV/0!", "93.2 %", "1_000", "12,34,5", "ninety", "1.5 ms", "0x1f", "--1"]
)
def test_what_is_no_number_is_refused_with_its_row(tmp_path: Path, cell: str) -> None:
    with pytest.raises(TableError, match=r"t\.csv:3: expected a number in 'acc', got ") as err:
        loaded(tmp_path, f'arch,acc\na,90\nb,"{cell}"\n')
    assert ("Save values, not formulas" in str(err.value)) == (cell[0] in "=#")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("arch,acc,acc\na,1,2\n", "column 'acc' stands twice, at 2 and 3: rename or remove one"),
        ("arch,acc, acc\na,1,2\n", "'acc' stands twice"),
        ("arch,acc\na,1\n,2\n", "t.csv:3: expected an architecture in 'arch', got an empty cell"),
        ("arch,acc\na,1,x\n", "t.csv:2: expected 2 cells, got 3"),
        ("arch,acc\n" + "x" * 200_000 + ",3\n", "line 2 cannot be read: field larger than field limit"),
        ("arch,acc\na,\0\n", "holds the character NUL at 11: save it as CSV UTF-8"),
        ("arch,acc\ncaf\xe9,1\n".encode("latin-1"), "no utf-8 text, .* at byte 12: save it as CSV UTF-8"),
        (PLAIN.encode("utf-16-le"), "NUL at 1: save it as CSV UTF-8"),
        (b"PK\x03\x04xl/workbook.xml", "a workbook of a spreadsheet program: save its sheet as CSV UTF-8"),
        (b"\xff\xfea", "no utf-16 text"),
        ("", "expected a metric among , got 'acc'"),
        ("name;acc\na;1\n", "expected a column architecture or .* got name, acc"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_remedy(tmp_path: Path, data: str | bytes, says: str) -> None:
    with pytest.raises(TableError, match=says):
        loaded(tmp_path, data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a":' * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ('{"a": {"acc": 1}, "a": {"acc": 2}}', "'a' stands twice in one object"),
        ('[{"arch": "a", "acc": 1, "acc": 2}]', "'acc' stands twice in one object"),
        ('[{"arch": "a", "acc": ' + "1" * 5000 + "}]", "Exceeds the limit"),
        ('[{"arch": "a", "acc": true}]', "expected a number in 'acc', got 'true'"),
        ("[1, 2]", "expected a list of rows or a mapping"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, data: str, says: str) -> None:
    with pytest.raises(TableError, match=says):
        loaded(tmp_path, data, "t.json")


def test_broken_and_bursting_gzip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = bytearray(gzip.compress(PLAIN.encode() * 50))
    for i in range(10, len(packed), 7):
        flipped = packed.copy()
        flipped[i] ^= 0xFF
        with pytest.raises(TableError, match=r"expected a \.csv"):
            loaded(tmp_path, bytes(flipped), "t.csv.gz")
    with pytest.raises(TableError, match="broken gzip data"):
        loaded(tmp_path, bytes(packed[:-9]), "t.csv.gz")
    monkeypatch.setattr(spreadsheets, "LEAST_LIMIT", 2**21)
    bomb = gzip.compress(b"0" * 2**23)
    with pytest.raises(TableError, match=r"bytes unpack to more than 2,097,152"):
        loaded(tmp_path, bomb, "t.csv.gz")
    assert len(unpacked(gzip.compress(b"0" * 2**21))) == 2**21


def test_wanted_cells_are_found_as_text_or_named(tmp_path: Path) -> None:
    data = "arch,epochs,acc\na, 4 ,1\nb,12,2\n"
    assert loaded(tmp_path, data, where={"epochs": 4}).labels == [1.0]
    with pytest.raises(TableError, match=r"expected rows with epochs='5' in .*, got none"):
        loaded(tmp_path, data, where={"epochs": "5"})


@given(
    st.binary(max_size=60) | st.text(st.sampled_from('arch,;\t"\r\n=accsep0.\ufeff{[]}:'), max_size=60).map(str.encode)
)
def test_no_file_ends_in_another_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        loaded(tmp_path_factory.mktemp("any"), data)
    except NasplatError:
        pass


def test_nested_and_text_labels_of_json_are_read(tmp_path: Path) -> None:
    rows = [{"arch": "a", "acc": "93,25"}, {"arch": "b", "acc": None}, {"arch": "c", "acc": 91}]
    assert loaded(tmp_path, json.dumps(rows), "t.json").labels == [93.25, 91.0]
    nested = {"a": {"c10": {"acc": [1, 2]}}}
    assert loaded(tmp_path, json.dumps(nested), "n.json", metric="c10.acc").labels == [2.0]


def test_trainings_are_told_apart_by_numbers() -> None:
    table = Table(({"arch": "a", "acc": "1", "seed": "first"},), "acc", "arch", "t.csv")
    with pytest.raises(TableError, match=r"expected a number in 'seed' of row 0 of .*, got 'first'"):
        table.ceiling()
    with pytest.raises(TableError, match="expected a number in 'run' of row 0"):
        table.ceiling("run")
