from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
import torch
from torch import nn

import nasplat
from nasplat.errors import SpaceError, TrustError
from nasplat.searchspace.pick import Rejected
from nasplat.study.captured import facts_of


@nasplat.space(example_input=(1, 4))
def stairs(pick: nasplat.Pick, steps: int = 3) -> nn.Module:
    """Depth decides which widths exist: 2 + 4 + 8 encodings."""
    depth = pick("depth", tuple(range(1, steps + 1)))
    widths = [pick(f"layer{i}.width", (4, 8)) for i in range(depth)]
    layers, last = nn.Sequential(), 4
    for i, width in enumerate(widths):
        layers.add_module(f"layer{i}", nn.Linear(last, width))
        last = width
    layers.add_module("head", nn.Linear(last, 2))
    return layers


@nasplat.space(example_input=(1, 4))
def odd_sums(pick: nasplat.Pick) -> nn.Module:
    a, b = pick("a", (1, 2, 3)), pick("b", (1, 2, 3))
    if (a + b) % 2 == 0:
        pick.reject(f"{a} + {b} is even")
    return nn.Linear(4, a)


def test_enumeration_meets_every_encoding_once() -> None:
    found = list(stairs.enumerate())
    assert len(found) == len(set(found)) == 14 == stairs.count().value
    assert stairs.count().error == 0
    assert list(odd_sums.enumerate()) == [a for a in odd_sums.enumerate() if sum(a.choices.values()) % 2]
    assert odd_sums.count().value == 4


def test_nasbench201_has_15625_encodings() -> None:
    assert nasplat.load_space("nasbench201").count() == nasplat.searchspace.Count(15_625.0, 0.0, None)


def test_same_seed_same_architecture(small_space: nasplat.Space) -> None:
    assert [small_space.sample(seed=i) for i in range(5)] == [small_space.sample(seed=i) for i in range(5)]
    assert len({small_space.sample(seed=i) for i in range(20)}) > 5


def test_small_presets_keep_the_rules(small_space: nasplat.Space) -> None:
    nasplat.check_space(small_space, samples=8)


@pytest.mark.parametrize("name", nasplat.list_spaces())
def test_shipped_spaces_keep_the_rules_and_leave_the_global_generator_alone(name: str) -> None:
    small = {
        "easnet": {"height": 48, "width": 96, "disparity": 24},
        "yolo": {"versions": ("8",), "depths": (0.33, 0.67), "widths": (0.25, 0.5)},
    }
    space = nasplat.load_space(name, **small.get(name, {}))
    before = torch.get_rng_state()
    architecture = space.sample(seed=0)  # a freshly loaded space builds a member to check itself
    assert architecture.graph().params > 0
    assert architecture.example_input is not None
    assert torch.equal(before, torch.get_rng_state())
    nasplat.check_space(space, samples=3)


def test_json_line_rebuilds_the_architecture(small_space: nasplat.Space) -> None:
    architecture = small_space.sample(seed=3)
    line = architecture.to_json()
    assert "\n" not in line
    again = nasplat.Architecture.from_json(line)
    assert again == architecture
    assert hash(again) == hash(architecture)
    assert again.graph().key == architecture.graph().key


def test_architectures_are_ordered_and_hashable(small_space: nasplat.Space) -> None:
    some = [small_space.sample(seed=i) for i in range(10)]
    assert sorted(some) == sorted(reversed(some))
    assert len(set(some + some)) == len(set(some))


def test_mutation_stays_inside_and_changes_something(small_space: nasplat.Space) -> None:
    for i in range(30):
        parent = small_space.sample(seed=i)
        child = small_space.mutate(parent, seed=i)
        assert child != parent
        assert small_space.architecture(child.choices) == child


def test_mutation_draws_what_it_newly_reaches_and_drops_the_rest() -> None:
    shallow = stairs.architecture({"depth": 1, "layer0.width": 8})
    for seed in range(20):
        child = stairs.mutate(shallow, seed=seed)
        assert len(child.choices) == child.choices["depth"] + 1


def test_crossover_takes_from_both_parents() -> None:
    first = stairs.architecture({"depth": 3, "layer0.width": 4, "layer1.width": 4, "layer2.width": 4})
    second = stairs.architecture({"depth": 3, "layer0.width": 8, "layer1.width": 8, "layer2.width": 8})
    children = {stairs.crossover(first, second, seed=i) for i in range(30)}
    assert any(len({v for k, v in c.choices.items() if k != "depth"}) == 2 for c in children)


def test_uniform_over_architectures_reaches_depth_by_count() -> None:
    depths = [stairs.sample(seed=i, uniform="architectures").choices["depth"] for i in range(400)]
    assert 0.45 < depths.count(3) / 400 < 0.69  # 8 of 14
    assert 0.25 < [stairs.sample(seed=i).choices["depth"] for i in range(400)].count(3) / 400 < 0.42


def test_trials_of_optuna_replay(small_space: nasplat.Space) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    architecture = small_space.suggest(trial)
    study.tell(trial, 1.0)
    assert small_space.from_trial(study.trials[0]) == architecture


def test_choices_cost_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: built.append(self))
    stairs.sample(seed=0)
    list(stairs.enumerate())
    stairs.mutate(stairs.sample(seed=0))
    assert not built


def test_pick_after_the_first_module_is_refused() -> None:
    @nasplat.space(example_input=(1, 4))
    def late(pick: nasplat.Pick) -> nn.Module:
        pick("a", (1, 2))
        layer = nn.Linear(4, 4)
        pick("b", (1, 2))
        return layer

    with pytest.raises(SpaceError, match="choice 'b' is picked after the first module"):
        late.sample(seed=0).build()


def test_changing_options_are_refused() -> None:
    @nasplat.space(example_input=(1, 4))
    def moving(pick: nasplat.Pick) -> nn.Module:
        a = pick("a", (1, 2))
        pick("b", (1, a + 5))
        return nn.Linear(4, 4)

    with pytest.raises(SpaceError, match="choice 'b' had options"):
        list(moving.enumerate())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no options"),
        ((1, 1), "twice"),
        ((None,), "strings, numbers or booleans"),
        (([1],), "strings, numbers or booleans"),
    ],
)
def test_bad_options_are_refused(options: tuple[object, ...], message: str) -> None:
    @nasplat.space(example_input=(1, 4))
    def bad(pick: nasplat.Pick) -> nn.Module:
        pick("a", options)
        return nn.Linear(4, 4)

    with pytest.raises(SpaceError, match=message):
        bad.sample()


def test_name_picked_twice_is_refused() -> None:
    @nasplat.space(example_input=(1, 4))
    def twice(pick: nasplat.Pick) -> nn.Module:
        pick("a", (1, 2))
        pick("a", (1, 2))
        return nn.Linear(4, 4)

    with pytest.raises(SpaceError, match="picked twice"):
        twice.sample()


def test_choice_outside_its_options_names_the_alternatives() -> None:
    with pytest.raises(SpaceError, match=r"choice 'layer0.width' allows \(4, 8\), got 16"):
        stairs.architecture({"depth": 1, "layer0.width": 16})
    with pytest.raises(SpaceError, match=r"choice 'layer0.width' allows .*got nothing"):
        stairs.architecture({"depth": 1})
    with pytest.raises(SpaceError, match=r"got 'layer2.width'"):
        stairs.architecture({"depth": 1, "layer0.width": 4, "layer2.width": 4})


def test_refused_combinations_say_why() -> None:
    with pytest.raises(SpaceError, match="1 \\+ 1 is even"):
        odd_sums.architecture({"a": 1, "b": 1})

    @nasplat.space(example_input=(1, 4))
    def never(pick: nasplat.Pick) -> nn.Module:
        pick("a", (1, 2))
        pick.reject("always")
        return nn.Linear(4, 4)

    with pytest.raises(SpaceError, match="refused 1000 combinations, the last: always"):
        never.sample()
    with pytest.raises(Rejected):
        never.suggest(optuna.trial.FixedTrial({"a": 1}))


def test_unknown_preset_lists_the_known() -> None:
    with pytest.raises(SpaceError, match=r"presets width, cells, .*got 'depth'"):
        nasplat.load_space("nasbench201", depth=3)


def test_no_module_and_no_input_are_refused() -> None:
    @nasplat.space(example_input=(1, 4))
    def nothing(pick: nasplat.Pick) -> object:
        return 3

    @nasplat.space()
    def blind(pick: nasplat.Pick) -> nn.Module:
        return nn.Linear(4, 4)

    with pytest.raises(SpaceError, match="constructed no module"):
        nothing.sample()
    with pytest.raises(SpaceError, match="states no input"):
        blind.sample().graph()


def test_foreign_json_is_refused() -> None:
    with pytest.raises(SpaceError, match="expected one line"):
        nasplat.Architecture.from_json("[1, 2]")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": 5}, "got 5 as space"),
        ({"space": None}, "got None as space"),
        ({"presets": [1]}, r"got \[1\] as presets"),
        ({"presets": None}, "got None as presets"),
        ({"choices": None}, "got None as choices"),
        ({"choices": {"0->1": ["none"]}}, r"got \['none'\] for '0->1'"),
        ({"choices": {}}, "'0->1' allows"),
        ({"fingerprint": 5}, "got 5 as fingerprint"),
        ({"space": "stairs", "presets": {"steps": "a"}}, r"steps='a'\) raised TypeError"),
        ({"presets": {"wide": 3}}, "got 'wide'"),
    ],
)
def test_a_line_with_a_part_of_the_wrong_type_is_refused(change: dict[str, object], message: str) -> None:
    line = json.loads(nasplat.load_space("nasbench201", width=4, cells=1).sample(seed=0).to_json())
    with pytest.raises(SpaceError, match=message):
        nasplat.Architecture.from_json(json.dumps(line | change)).graph()


def test_a_line_of_endless_depth_is_refused() -> None:
    deep = '{"space":' + "[" * 20_000 + "]" * 20_000 + ',"choices":{}}'
    with pytest.raises(SpaceError, match="expected one line"):
        nasplat.Architecture.from_json(deep)
    with pytest.raises(SpaceError, match="JSON choices"):
        stairs.parse(deep)
    with pytest.raises(SpaceError, match="Write an object"):
        stairs.parse("[1, 2]") if "parse" in stairs.hooks else stairs.parse(" 5")


def widths(options: tuple[int, ...] = (4, 8), kernel: int = 3) -> nasplat.Space:
    """Space called `mine`, of closures."""

    @nasplat.space(example_input=(1, 3, 8, 8))
    def mine(pick: nasplat.Pick, groups: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, pick("w", options), kernel))

    return mine


def test_a_space_is_what_its_code_is() -> None:
    first, same, other, wider = widths(), widths(), widths(kernel=5), widths((4, 8, 16))
    assert first == same != other
    assert first.fingerprint == same.fingerprint
    assert len({first.fingerprint, other.fingerprint, wider.fingerprint, first.with_presets(groups=1).fingerprint}) == 4
    members = [s.architecture({"w": 4}) for s in (first, same, other, wider)]
    assert members[0] == members[1]
    assert hash(members[0]) == hash(members[1])
    assert len(set(members)) == 3
    assert facts_of(members[0]).macs * 25 * 16 == facts_of(members[2]).macs * 9 * 36


def test_the_order_of_presets_makes_no_other_space() -> None:
    cells = nasplat.load_space("nasbench201", width=8, cells=1)
    assert cells == nasplat.load_space("nasbench201", cells=1, width=8)
    sizes = nasplat.load_space("inception", width=(4, 8))
    assert sizes.fingerprint == nasplat.load_space("inception", width=[4, 8]).fingerprint  # as JSON gives them back


def test_a_line_of_another_size_is_refused_by_its_presets() -> None:
    cells, small = nasplat.load_space("nasbench201"), nasplat.load_space("nasbench201", width=8)
    line = small.sample(seed=0).to_json()
    for read in (cells.parse, lambda text: nasplat.Architecture.from_json(text, cells)):
        with pytest.raises(SpaceError, match=r"of Space\(nasbench201.*\), got one of 'nasbench201' with presets .*8"):
            read(line)
    assert small.parse(line) == nasplat.Architecture.from_json(line, small)
    stated = nasplat.load_space("nasbench201", width=16).sample(seed=0)
    assert cells.parse(stated.to_json()).choices == stated.choices  # 16 is the default


def test_two_lambdas_are_two_spaces() -> None:
    made = nasplat.space(example_input=(1, 4))
    small, large = (
        made(lambda pick: nn.Linear(4, pick("w", (4, 8)))),
        made(lambda pick: nn.Linear(4, 2 * pick("w", (4, 8)))),
    )
    assert small.name == large.name
    assert small.architecture({"w": 4}) != large.architecture({"w": 4})


def test_helpers_and_options_that_a_notebook_defines_anew_are_taken_up() -> None:
    scope: dict[str, object] = {"nasplat": nasplat, "nn": nn}
    exec(
        "OPTIONS = (4, 8)\n@nasplat.block\nclass Part(nn.Conv2d):\n    def forward(self, x): return act(super().forward(x))",
        scope,
    )
    exec("def act(x): return x.relu()\ndef build(pick): return nn.Sequential(Part(3, pick('w', OPTIONS), 3))", scope)
    space = nasplat.space(example_input=(1, 3, 8, 8))(scope["build"])  # type: ignore[arg-type]
    before = space.architecture({"w": 4})
    assert facts_of(before).macs == 4 * 27 * 36
    assert "relu" in [n.op for n in before.graph().nodes]
    assert space.count().value == 2
    exec("def act(x): return x.tanh()\nOPTIONS = (4, 8, 16)", scope)
    after = space.architecture({"w": 4})
    assert "tanh" in [n.op for n in after.graph().nodes]
    assert space.count().value == 3
    assert before != after
    assert facts_of(space.architecture({"w": 16})).macs == 16 * 27 * 36


def test_a_line_of_an_edited_space_is_refused_with_what_changed() -> None:
    first, edited = widths(), widths(kernel=5)
    line = first.architecture({"w": 4}).to_json()
    assert nasplat.Architecture.from_json(line) == nasplat.Architecture.from_json(line, first) == first.parse(line)
    for read in (edited.parse, lambda text: nasplat.Architecture.from_json(text, edited)):
        with pytest.raises(SpaceError, match="Space\\(mine\\) with other code"):
            read(line)
    with pytest.raises(SpaceError, match=r"other presets, which were \{\}"):
        first.with_presets(groups=1).parse(line)
    assert edited.architecture(json.loads(line)["choices"]).choices == {"w": 4}


def test_a_line_of_another_process_asks_for_its_space() -> None:
    line = json.loads(widths().architecture({"w": 4}).to_json()) | {"space": "elsewhere"}
    with pytest.raises(SpaceError, match="one space called 'elsewhere' in this process, got 0"):
        nasplat.Architecture.from_json(json.dumps(line | {"fingerprint": "0." + line["fingerprint"]}))
    assert nasplat.Architecture.from_json(json.dumps(line)).space.name == "elsewhere"  # the very code is here


def test_a_line_that_names_a_file_runs_it_for_who_loaded_or_trusts_it(tmp_path: Path) -> None:
    file, mark = tmp_path / "mine.py", tmp_path / "ran"
    file.write_text(
        f"open({str(mark)!r}, 'w').close()\nimport nasplat\nfrom torch import nn\n"
        "@nasplat.space(example_input=(1, 4))\ndef mine(pick):\n    return nn.Linear(4, pick('w', (4, 8)))\n"
    )
    line = json.dumps({"space": str(file), "presets": {}, "choices": {"w": 4}})
    with pytest.raises(TrustError, match="trust=True"):
        nasplat.Architecture.from_json(line)
    assert not mark.exists()
    trusted = nasplat.Architecture.from_json(line, trust=True)
    assert mark.exists()
    assert nasplat.Architecture.from_json(line) == trusted  # the file has run already
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.parent.mkdir()
    moved.write_bytes(file.read_bytes())
    here = nasplat.load_space(str(moved)).architecture({"w": 4})
    there = nasplat.Architecture.from_json(here.to_json().replace(str(moved), "/of/another/machine/mine.py"))
    assert there.space.fingerprint == here.space.fingerprint
    file.write_text(file.read_text().replace("Linear(4", "Linear(8"))
    with pytest.raises(TrustError):  # it would run again
        nasplat.Architecture.from_json(line)
    with pytest.raises(SpaceError, match="with other code"):
        nasplat.Architecture.from_json(trusted.to_json().replace(trusted.space.fingerprint, "00.00"), trust=True)


def test_nasbench201_encoding_is_checked() -> None:
    space = nasplat.load_space("nasbench201")
    with pytest.raises(SpaceError, match="Give all six edges"):
        space.parse("|none~0|")
    with pytest.raises(SpaceError, match=r"choice '0->1' allows .*got 'nor_conv_7x7'"):
        space.parse("|nor_conv_7x7~0|+|none~0|none~1|+|none~0|none~1|none~2|")


def test_equal_cells_share_canonical_form_and_key() -> None:
    space = nasplat.load_space("nasbench201", width=4, cells=1)
    dead = space.parse("|nor_conv_3x3~0|+|skip_connect~0|none~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
    also = space.parse("|none~0|+|skip_connect~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|")
    assert dead.canonical() == also.canonical().canonical() or dead.canonical().graph().key != also.graph().key
    assert dead.canonical().graph().key == dead.graph().key


def test_canonical_form_computes_the_same(cells: nasplat.Space) -> None:
    for i in range(25):
        architecture = cells.sample(seed=i)
        assert architecture.canonical().graph().key == architecture.graph().key, architecture


def test_depth_that_moves_a_name_is_found() -> None:
    @nasplat.space(example_input=(1, 4))
    def counted(pick: nasplat.Pick) -> nn.Module:
        depth = pick("depth", (1, 2, 3))
        return nn.Sequential(*[nn.Linear(4, 4) for _ in range(depth)], nn.LayerNorm(4))

    with pytest.raises(SpaceError, match="moves '"):
        nasplat.check_space(counted)


def test_space_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\nfrom nasplat import space\n\n"
        "@space(example_input=(1, 4))\ndef mine(pick, width=4):\n"
        "    out = pick('out', (2, 3))\n    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, out))\n",
        encoding="utf-8",
    )
    space = nasplat.load_space(str(file), width=6)
    architecture = space.sample(seed=0)
    assert nasplat.Architecture.from_json(architecture.to_json()) == architecture
    assert architecture.build()[0].out_features == 6
    with torch.no_grad():
        assert architecture.build()(torch.zeros(1, 4)).shape == (1, architecture.choices["out"])


def test_a_late_pick_is_found_behind_a_member_that_does_not_build() -> None:
    @nasplat.space(example_input=(1, 4))
    def late(pick: nasplat.Pick) -> torch.nn.Module:
        width = pick("width", (4, 8))
        layer = torch.nn.Linear(4, width)
        if width == 4:
            raise RuntimeError("this member is broken")
        pick("bias", (0, 1))
        return layer

    with pytest.raises(SpaceError, match="picked after the first module"):
        [late.sample(seed=seed) for seed in range(20)]


def test_spaces_and_architectures_print_as_one_line_with_the_count_where_it_is_known() -> None:
    cells = nasplat.load_space("nasbench201", width=8, cells=2)
    assert repr(cells) == "Space(nasbench201, width=8, cells=2)"
    cells.structure()
    assert repr(cells) == "Space(nasbench201, width=8, cells=2, 15,625 encodings)"
    assert repr(nasplat.load_space("inception")).endswith("e+84 encodings)")
    architecture = cells.sample(seed=1)
    assert repr(architecture) == f"Architecture({str(architecture)!r}, width=8, cells=2)"


def test_notebooks_show_choices_escaped_and_capped() -> None:
    @nasplat.space(example_input=(1, 4))
    def many(pick: nasplat.Pick) -> nn.Module:
        pick("<b>", ("<i>", "none"))
        for i in range(60):
            pick(f"bit{i}", (0, 1))
        return nn.Linear(4, 4)

    for page in (many._repr_html_(), many.sample(seed=0)._repr_html_()):
        assert "&lt;b&gt;" in page
        assert "&lt;i&gt;" in page or "none" in page
        assert "<b>" not in page
        assert page.count("<tr>") == 41
        assert "21" in page


def test_what_is_remembered_of_a_space_is_made_once_and_forgotten_at_another_size() -> None:
    small = stairs.with_presets(steps=2)
    made: list[int] = []
    assert [small.remembered("key", lambda: made.append(1) or 7) for _ in range(2)] == [7, 7]
    assert made == [1]
    assert small.with_presets(steps=2).remembered("key", lambda: 8) == 8
    assert small.renamed("another").remembered("key", lambda: 9) == 7


def test_what_is_remembered_everywhere_is_shared_by_equal_spaces_alone() -> None:
    def asked(space: nasplat.Space, value: int) -> int:
        return space.remembered("shared", lambda: value, everywhere=True)

    assert asked(stairs.with_presets(steps=3), 1) == 1
    assert asked(stairs.with_presets(steps=3), 2) == 1
    assert asked(stairs.with_presets(steps=3).renamed("another"), 2) == 1
    assert asked(stairs.with_presets(steps=4), 3) == 3
    assert asked(stairs.with_presets(steps=object()), 4) == 4  # one text may stand for many objects
    assert asked(stairs.with_presets(steps=object()), 5) == 5
