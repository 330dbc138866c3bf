"""NAS-Bench-101 as published: names, parameter counts, encodings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import nasplat
from nasplat.errors import SpaceError

# (encoding, published hash, published trainable parameters): rows of the benchmark, Ying et al. 2019
GOLDEN = [
    (
        "100110100001001010101:conv3x3|maxpool3x3|conv3x3|conv3x3|conv1x1",
        "00005c142e6f48ac74fdcf73e3439874",
        8_555_530,
    ),
    (
        "101000100001001100101:conv1x1|conv3x3|maxpool3x3|conv1x1|maxpool3x3",
        "0000fa05697179112aaf69c2f0a51a0f",
        3_729_162,
    ),
    ("1111111101:maxpool3x3|conv3x3|conv3x3", "001ea832563f8d635ef7d0af25926274", 6_843_402),
]


@pytest.fixture(scope="module")
def space() -> nasplat.Space:
    return nasplat.load_space("nasbench101")


def published_name(space: nasplat.Space, architecture: nasplat.Architecture) -> str:
    return sys.modules[space.function.__module__].module_hash(architecture.choices)


@pytest.mark.parametrize(("text", "name", "params"), GOLDEN)
def test_published_hash_and_parameters(space: nasplat.Space, text: str, name: str, params: int) -> None:
    architecture = space.parse(text)
    assert published_name(space, architecture) == name
    assert architecture.graph().params == params
    assert space.format(architecture) == text


def test_cells_up_to_five_vertices_are_the_published_2532() -> None:
    small = nasplat.load_space("nasbench101", vertices=5)  # EC-NAS, Bakhtiarifard et al. 2024: 5V space
    assert len({published_name(small, a) for a in small.enumerate()}) == 2_532


def test_best_published_cell_has_its_flops(space: nasplat.Space) -> None:
    # in→v1,v2,out; v1→v3,v5; v2→v5; v3→v4; v4→v5; v5→out: 11.72 GFLOPs in GENNAPE, Table 7 (batch norm and adds included)
    cell = space.parse("110001010100010100101:conv3x3|conv3x3|maxpool3x3|conv3x3|conv3x3")
    assert cell.graph().params == pytest.approx(39.81e6, rel=0.02)
    assert 2 * cell.graph().macs == pytest.approx(11.72e9, rel=0.02)


def test_isomorphic_cells_share_name_key_and_representative(space: nasplat.Space) -> None:
    first = space.parse("1100010101:conv3x3|maxpool3x3|conv1x1")
    swapped = space.parse("1100101011:maxpool3x3|conv3x3|conv1x1")
    for a in (first, swapped):
        assert published_name(space, a) == published_name(space, a.canonical())
        assert a.canonical().canonical() == a.canonical()


def test_dead_vertices_do_not_change_the_network(space: nasplat.Space) -> None:
    alive = space.parse("101:conv3x3")
    dead = space.parse("110010:conv3x3|conv1x1")  # 0->1, 0->2, 1->out: vertex 2 leads nowhere
    assert dead.canonical() == alive.canonical()
    assert dead.graph().key == alive.graph().key


@pytest.mark.parametrize("text", ["11:conv3x3", "1x1:conv3x3", "111:conv5x5", "|nor_conv_3x3~0|"])
def test_malformed_encoding_is_refused(space: nasplat.Space, text: str) -> None:
    with pytest.raises(SpaceError, match="bits, a colon and n-2 ops"):
        space.parse(text)


def test_more_than_nine_edges_and_no_path_are_refused(space: nasplat.Space) -> None:
    with pytest.raises(SpaceError, match="at most 9"):
        space.parse("1" * 15 + ":conv3x3|conv3x3|conv3x3|conv3x3")
    with pytest.raises(SpaceError, match="no path leads"):
        space.parse("100:conv3x3")


def test_table_rows_become_architectures(space: nasplat.Space, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("hash,adj_upper,ops,acc\na,101,conv3x3,90\nb,111,conv1x1,91\n", encoding="utf-8")
    table = nasplat.load_table(file, space=space, metric="acc")
    assert [space.format(a) for a in table.architectures] == ["101:conv3x3", "111:conv1x1"]


def test_published_configuration_of_once_for_all_is_read() -> None:
    space = nasplat.load_space("ofa_mobilenetv3")
    text = '{"ks":[3,3,3,3,3,3,5,3,5,7,5,5,3,3,3,3,5,3,3,3],"e":[4,3,4,4,4,3,6,4,3,6,6,3,4,6,4,3,3,4,4,4],"d":[3,3,3,2,3],"r":224}'
    architecture = space.parse(text)
    assert architecture.choices["unit0.depth"] == 3
    assert architecture.choices["unit4.block2.expand"] == 4
    # DyNAS-T counts 227,454,896 MACs and 4,482,528 parameters
    assert architecture.graph().macs == pytest.approx(227_454_896, rel=0.02)
    assert architecture.graph().params == pytest.approx(4_482_528, rel=0.01)
    with pytest.raises(SpaceError, match=r"resolution among the preset's \(224,\), got 192"):
        space.parse(text.replace("224", "192"))
    assert nasplat.load_space("ofa_mobilenetv3", resolutions=[192, 224]).parse(text).choices["resolution"] == 224


def test_the_ends_of_a_space_that_refuses_its_ends_go_as_far_as_it_allows() -> None:
    space = nasplat.load_space("nasbench101", width=8, cells=1)
    small, large = space.extreme(largest=False), space.extreme(largest=True)
    assert (small.choices["vertices"], large.choices["vertices"]) == (3, 7)
    edges = [name for name, value in large.choices.items() if value is True]
    assert len(edges) == 9  # one more is refused
    assert small.graph().params < large.graph().params
    assert space.extreme() == large
