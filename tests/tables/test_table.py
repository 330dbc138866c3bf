from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import nasplat
from nasplat.errors import TableError
from nasplat.tables.reading import read_table
from nasplat.tables.table import Table

pytestmark = pytest.mark.fast

ROWS = "arch_str,acc,other\na,1.5,1\nb,,2\nc,nan,3\nd,2.5,4\ne,3,5\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def test_empty_and_nan_cells_are_not_rows(file: Path) -> None:
    assert read_table(file, "acc").labels == [1.5, 2.5, 3.0]


def test_split_is_disjoint_complete_and_seeded(file: Path) -> None:
    table = read_table(file, "other")
    parts = table.split(seed=3, shares=(0.4, 0.2))
    keys = [r["arch_str"] for p in parts for r in p.rows]
    assert sorted(keys) == list("abcde")
    assert [len(p) for p in parts] == [2, 1, 2]
    assert [p.rows for p in table.split(seed=3, shares=(0.4, 0.2))] == [p.rows for p in parts]


def test_saving_keeps_content_and_bytes(file: Path, tmp_path: Path) -> None:
    table = read_table(file, "acc")
    for name in ("a.csv.gz", "b.csv.gz"):
        table.save(tmp_path / name)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert read_table(tmp_path / "a.csv.gz", "acc").content_hash == table.content_hash


def test_unknown_metric_lists_the_columns(file: Path) -> None:
    with pytest.raises(TableError, match="among arch_str, acc, other, got 'loss'"):
        read_table(file, "loss")


def test_text_in_a_metric_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arch_str,acc\na,1\nb,high\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"t\.csv:3: expected a number in 'acc', got 'high'"):
        read_table(path, "acc")


def test_missing_file_and_missing_key_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"expected a .csv"):
        read_table(tmp_path / "none.csv", "acc")
    path = tmp_path / "t.csv"
    path.write_text("name,acc\na,1\n", encoding="utf-8")
    with pytest.raises(TableError, match="expected a column architecture or"):
        read_table(path, "acc")


def test_table_without_a_space_has_no_architectures(file: Path) -> None:
    with pytest.raises(TableError, match="loaded without a space"):
        _ = read_table(file, "acc").architectures


def test_architectures_are_read_with_the_space(tmp_path: Path) -> None:
    space = nasplat.load_space("nasbench201")
    texts = [space.format(space.sample(seed=i)) for i in range(3)]
    path = tmp_path / "t.csv"
    path.write_text("arch_str,acc\n" + "".join(f"{t},{i}\n" for i, t in enumerate(texts)), encoding="utf-8")
    table = nasplat.load_table(path, space="nasbench201", metric="acc")
    assert [space.format(a) for a in table.architectures] == texts


def table(rows: list[dict[str, str]], source: str) -> Table:
    return Table(tuple(rows), "acc", "key", source)


def test_join_unites_columns_of_equal_keys() -> None:
    left = table([{"key": "a", "acc": "1"}, {"key": "b", "acc": "2"}], "left")
    right = table([{"key": "b", "ms": "20"}, {"key": "a", "ms": "10"}], "right")
    assert [(r["acc"], r["ms"]) for r in left.join(right).rows] == [("1", "10"), ("2", "20")]


def test_join_refuses_unequal_and_doubled_keys() -> None:
    left = table([{"key": "a", "acc": "1"}, {"key": "b", "acc": "2"}], "left")
    with pytest.raises(TableError, match=r"1 only in Table\(2 rows, acc, left\) and 2 only in .* such as 'b'"):
        left.join(table([{"key": "a"}, {"key": "c"}, {"key": "d"}], "right"))
    with pytest.raises(TableError, match="holds key 'a' twice"):
        left.join(table([{"key": "a"}, {"key": "a"}], "right"))
    with pytest.raises(TableError, match="expected a column 'hash'"):
        left.join(left, on="hash")


def test_split_keeps_isomorphic_architectures_together() -> None:
    space = nasplat.load_space("nasbench201")
    # an edge out of a node that nothing feeds computes nothing
    texts = [
        f"|none~0|+|nor_conv_3x3~0|{op}~1|+|none~0|none~1|nor_conv_1x1~2|"
        for op in ("none", "skip_connect", "avg_pool_3x3")
    ]
    rows = [{"key": t, "acc": str(i)} for i, t in enumerate(texts * 5)]
    for seed in range(5):
        parts = Table(tuple(rows), "acc", "key", "made up", space.parse).split(seed, (0.5, 0.2))
        assert sorted(len(p) for p in parts) == [0, 0, 15]


CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
API = {
    "00005c": {
        "module_adjacency": [[0, 1, 0, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]],
        "module_operations": ["input", "conv3x3-bn-relu", "maxpool3x3", "conv1x1-bn-relu", "output"],
        "final_validation_accuracy": 0.93,
    }
}


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_json_of_architectures_with_nested_metrics_and_curves(tmp_path: Path) -> None:
    rows = {
        "64-41414-1_23_012": {"class_scene": {"valid_top1": [1.0, 2.5]}, "seed": 0},
        "64-41414-3_33_333": {"seed": 1},
    }
    path = written(tmp_path, "t.json", rows)
    table = nasplat.load_table(path, space="transnas_micro", metric="class_scene.valid_top1")
    assert table.labels == [2.5]
    assert table.rows[0]["class_scene.valid_top1_ep1"] == "1.0"
    assert table.architectures[0].space.name == "transnas_micro"
    listed = written(tmp_path, "l.json", [{"arch": CELL, "acc": 91}, {"arch": CELL, "acc": None}])
    assert nasplat.load_table(listed, space="nasbench201", metric="acc").labels == [91.0]


def test_nasbench101_rows_of_both_kinds_are_read(tmp_path: Path) -> None:
    table = nasplat.load_table(
        written(tmp_path, "api.json", API), space="nasbench101", metric="final_validation_accuracy"
    )
    columns = "adj_upper,ops,acc\n1001100111,conv3x3|maxpool3x3|conv1x1,93\n"
    other = nasplat.load_table(written(tmp_path, "t.csv", columns), space="nasbench101", metric="acc")
    assert table.architectures == other.architectures


def test_rows_are_chosen_by_cells_and_the_architecture_by_its_column(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", f"cell,data,acc\n{CELL},cifar10,93\n{CELL},imagenet,45\n")
    table = nasplat.load_table(path, space="nasbench201", metric="acc", key="cell", where={"data": "imagenet"})
    assert table.labels == [45.0]
    assert str(table.architectures[0]) == f"nasbench201:{CELL}"
    with pytest.raises(TableError, match="Pass key="):
        nasplat.load_table(path, space="nasbench201", metric="acc")
    with pytest.raises(TableError, match="expected a column among cell, data, acc, got 'dataset'"):
        nasplat.load_table(path, metric="acc", key="cell", where={"dataset": "imagenet"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.json", "{", "an error in line 1"),
        ("t.json", "[1, 2]", "expected a list of rows"),
        ("t.json", '{"a": 1}', "expected a list of rows"),
        ("t.csv", "arch,acc\na,1,2\n", r"t\.csv:2: expected 2 cells, got 3"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        read_table(written(tmp_path, name, content), "acc")


def test_isomorphic_cells_are_known_by_key(tmp_path: Path) -> None:
    # a path through a skip is the same as the direct edge; sums have no order
    direct = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
    around = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    path = written(tmp_path, "t.csv", f"arch_str,acc\n{direct},90\n{CELL},80\n{around},92\n")
    table = nasplat.load_table(path, space="nasbench201", metric="acc")
    assert table.duplicates() == [[0, 2]]
    assert table.averaged().labels == [91.0, 80.0]


FOLDER = os.environ.get("NASPLAT_NAS", "")
JOINS: list[tuple[str, str, dict[str, Any], dict[str, str], str]] = [
    *((f"nb201{f}", "nasbench201", {}, {}, m) for f, m in (("", "c10_test_200ep"), ("_hw", "hwnb_c10_edgegpu_latency"))),
    *((f"nb201_{f}", "nasbench201", {}, {}, m) for f, m in (("analog", "analog_accuracy"), ("9x", "svhn_val_acc"))),
    ("nb201_robustness", "nasbench201", {}, {}, "aa_apgd-ce@Linf_eps-1.0"),
    ("nb201_zerocost_725", "nasbench201", {}, {"dataset": "cifar10"}, "val_accuracy"),
    ("nb201_zerocost_9445", "nasbench201", {}, {}, "synflow_c10"),
    ("tnb101_micro", "transnas_micro", {}, {}, "jigsaw_val_top1_final"),
    ("tnb101_micro_zerocost_711", "transnas_micro", {}, {"task": "jigsaw"}, "val_metric_best_epoch"),
    ("tnb101_micro_9x", "transnas_micro", {}, {}, "svhn_val_acc"),
    ("nb101_20k", "nasbench101", {}, {}, "val_acc_108ep"),
    ("nb101_energy", "nasbench101", {}, {"epochs": "4"}, "test_acc"),
    ("nb101_zerocost_500", "nasbench101", {}, {}, "val_acc_108ep"),
    ("darts_oncenas_545", "darts", {"none": True}, {}, "val_acc_50ep"),
    ("darts_9x_199", "darts", {}, {}, "svhn_val_acc"),
    ("darts_nb301_surrogate_725", "darts", {}, {}, "surrogate_val_acc"),
    ("nb_macro", "nasbench_macro", {}, {}, "test_acc_mean"),
    ("accel_nasbench", "mnasnet", {}, {}, "val_top1"),
    *((f"ofa_mbv3_{f}", "ofa_mobilenetv3", {"resolutions": list(range(32, 257, 4))}, {}, m)
      for f, m in (("imagenet", "top1_mean"), ("cifar10", "top1"), ("latency", "lat_ms_v100_1"))),
    ("fbnet_latency", "fbnet", {}, {}, "lat_ms_pixel2"),
    ("vit_autoprox", "vit", {"ratios": [3.5, 4]}, {"space": "AutoFormer-tiny"}, "cifar100_base_acc"),
    ("vit_autoprox", "vit", {"ratios": [3.5, 4]}, {"space": "AutoFormer-tiny(2)"}, "chaoyang_kd_acc"),
    ("vit_autoprox", "pit", {}, {"space": "PiT"}, "cifar100_base_acc"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="set NASPLAT_NAS to a folder of labelled architectures")
@pytest.mark.parametrize(("file", "space", "presets", "where", "metric"), JOINS)
def test_every_shared_row_is_an_architecture(
    file: str, space: str, presets: dict[str, Any], where: dict[str, str], metric: str
) -> None:
    table = nasplat.load_table(Path(FOLDER) / f"{file}.csv.gz", space=space, metric=metric, where=where, **presets)
    assert len(table) > 50
    assert len(table.architectures) == len(table)


def test_a_table_prints_its_first_rows_and_escapes_them() -> None:
    rows = tuple(
        {"note": "<b>" * 40, "arch": f"a|{i}", "acc": str(i)} | {f"c{j}": "" for j in range(9)} for i in range(7)
    )
    table = Table(rows, "acc", "arch", "<mine>.csv")
    assert repr(table) == "Table(7 rows, acc, <mine>.csv)"
    assert str(table).splitlines()[0] == "Table(7 rows, acc, <mine>.csv); 2 more rows; 4 more columns"
    assert str(table).splitlines()[2].startswith("| arch | acc | note | c0 ")
    assert "| a\\|4 | 4 | &lt;b>" in str(table)
    assert "a\\|5" not in str(table)
    html = table._repr_html_()
    assert "<caption>Table(7 rows, acc, &lt;mine&gt;.csv)" in html
    assert "<b>" not in html
    assert "&lt;b…</td>" in html
    assert "Table(0 rows" in Table((), "acc", "arch")._repr_html_()


def test_rows_without_a_finite_label_are_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    cells = ["93.2", "", "nan", "inf", "-inf", "failed", "OOM", "91"]
    file.write_text("arch,accuracy\n" + "".join(f"a{i},{c}\n" for i, c in enumerate(cells)), encoding="utf-8")
    table = read_table(file, "accuracy")
    assert (table.labels, table.left_out) == ([93.2, 91.0], 6)
    assert repr(table) == "Table(2 rows, accuracy, mine.csv, 6 more without a finite label)"
    assert table.labelled() is table
    file.write_text("arch,accuracy\na,nan\nb,\n", encoding="utf-8")
    with pytest.raises(TableError, match=r"finite labels in 'accuracy', got none in 2 rows of .*mine\.csv"):
        read_table(file, "accuracy")


def test_a_table_made_in_python_leaves_them_out_too() -> None:
    rows = [{"arch": a, "acc": c} for a, c in zip("aabbc", ["1", "nan", "", "inf", "4"], strict=True)]
    table = Table(tuple(rows), "acc", "arch", "made up")
    kept = table.labelled()
    assert (kept.labels, kept.left_out) == ([1.0, 4.0], 3)
    assert [str(v) for v in table.averaged().labels] == ["1.0", "nan", "4.0"]
    with pytest.raises(TableError, match="got none in 2 rows of made up"):
        table.take([1, 2]).labelled()
    with pytest.raises(TableError, match=r"number in 'acc' of row 0 .* got 'good'"):
        _ = Table(({"arch": "a", "acc": "good"},), "acc", "arch").labels
    with pytest.raises(TableError, match=r"number in 'ms' of row 0 .* got None"):
        table.column("ms")
