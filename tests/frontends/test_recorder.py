from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import nasplat
from nasplat.errors import CaptureError, InputError
from nasplat.frontends import parts, tape


def test_capture_leaves_the_module_as_it_was(small_space: nasplat.Space) -> None:
    module = small_space.sample(seed=0).build().train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    nasplat.capture(module, (1, 1, 16, 16))
    assert all(m.training for m in module.modules())
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in before.items())
    assert not any("forward" in m.__dict__ for m in module.modules())


def test_weights_are_not_read() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    assert nasplat.capture(module, (1, 3, 8, 8)).macs == 8 * 36 * 27


def test_block_reuse_gives_the_same_graph(small_space: nasplat.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture = small_space.sample(seed=5)
    architecture.graph()
    reused = architecture.graph()  # every block is known by now
    monkeypatch.setattr(parts, "SIGNATURE", "no such attribute")
    module, shape = small_space.construct(architecture)
    plain = nasplat.capture(module, shape, program=False)
    assert reused.nodes == plain.nodes
    assert reused.edges == plain.edges
    assert reused.key == plain.key
    assert {w.name for w in reused.weights} == {w.name for w in plain.weights}


def test_blocks_with_closures_or_modules_are_recorded_each_time() -> None:
    @nasplat.block
    class Wrapped(nn.Module):
        def __init__(self, function: object) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.function(x)  # type: ignore[operator]

    def scaled(by: float) -> object:
        return lambda x: x * by

    keys = {nasplat.capture(Wrapped(scaled(v)), (1, 4)).key for v in (2.0, 3.0)}
    assert len(keys) == 2


def test_in_place_writes_through_views_keep_their_order() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            y[:, :2].add_(1)
            return torch.relu(y)

    graph = nasplat.capture(InPlace(), (1, 4))
    ops = [n.op for n in graph.nodes]
    relu = ops.index("relu")
    assert graph.operands[relu][0][0] == ops.index("add")


def test_control_flow_on_shapes_and_constants_answers_truly() -> None:
    class Flow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("index", torch.arange(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if int(self.index.sum()) == 3 and x.shape[1] > 2:
                return torch.relu(x)
            return torch.tanh(x)

    graph = nasplat.capture(Flow(), (1, 4))
    assert "relu" in [n.op for n in graph.nodes]
    assert graph.notes == ()


def test_control_flow_on_data_is_noted_and_ends() -> None:
    class Loop(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            while not bool(x.sum() > 0):
                x = x + 1
            return x

    graph = nasplat.capture(Loop(), (1, 4))
    assert "a value of the data decides here" in graph.notes[0]
    assert "test_recorder.py" in graph.notes[0]


def test_checkpointed_tied_and_nested_modules() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight
            self.unused = nn.Linear(4, 100)

        def forward(self, x: torch.Tensor) -> dict[str, object]:
            y = checkpoint(self.a, x, use_reentrant=False)
            return {"out": (self.b(y), [y])}

    graph = nasplat.capture(Mixed(), (1, 4))
    assert graph.params == 16 + 4 + 4
    assert [n.op for n in graph.nodes].count("output") == 2


def test_attention_layers_and_encoders_are_captured() -> None:
    layer = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
    graph = nasplat.capture(layer, (1, 5, 16))
    assert graph.params == sum(p.numel() for p in layer.parameters())
    assert not graph.unknown_ops


def test_two_inputs() -> None:
    class Sum(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x @ y

    graph = nasplat.capture(Sum(), ((2, 3), (3, 5)))
    assert graph.macs == 2 * 3 * 5


def test_wrong_input_shape_names_module_and_line() -> None:
    with pytest.raises(CaptureError, match=r"(?s)raised RuntimeError on input \(1, 5\).*Check example_input"):
        nasplat.capture(nn.Sequential(nn.Linear(4, 2)), (1, 5))


def test_bad_example_input_is_refused() -> None:
    with pytest.raises(CaptureError, match="expected example_input"):
        nasplat.capture(nn.Linear(4, 2), "big")


def test_endless_loops_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            while True:
                x = x + 1

    monkeypatch.setattr(tape, "MAX_NODES", 50)
    with pytest.raises(CaptureError, match="at most 50 operations"):
        nasplat.capture(Endless(), (1, 4))


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(InputError, match="got int"):
        nasplat.capture(3)


@pytest.mark.parametrize("name", nasplat.list_spaces())
def test_copied_blocks_give_the_graph_that_constructed_ones_give(name: str) -> None:
    space = nasplat.load_space(name)
    for seed in range(3):
        architecture = space.sample(seed=seed)
        module, shape = space.construct(architecture)  # every part constructed
        first, again = architecture.graph().to_json(), architecture.graph().to_json()
        assert first == again == nasplat.capture(module, shape, program=False).to_json()
    assert all(not p.is_meta for p in space.construct(architecture)[0].parameters())  # copies stay inside captures


@nasplat.block
class _Shared(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x)


class _ReadsInside(nn.Module):
    """Reads a parameter inside a block from outside it."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Shared(4) for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return nn.functional.linear(x, self.layers[0].fc.weight)


def test_parameters_read_from_outside_their_block_keep_their_identity() -> None:
    @nasplat.space(example_input=(1, 4))
    def shared(pick: nasplat.Pick) -> nn.Module:
        return _ReadsInside(pick("blocks", (1, 2, 3)))

    for seed in range(5):
        architecture = shared.sample(seed=seed)
        graphs = [architecture.graph(), architecture.graph(), nasplat.capture(architecture.build(), (1, 4))]
        assert len({g.key for g in graphs}) == 1
        assert len({g.params for g in graphs}) == 1


@nasplat.block
class _Outer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = _Shared(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.inner(x))


def test_known_segments_of_blocks_that_hold_shells_are_pasted() -> None:
    nasplat.capture(nn.Sequential(_Outer(6), _Outer(6)), (1, 6), program=False)  # the segment is known, no template is

    @nasplat.space(example_input=(1, 6))
    def nested(pick: nasplat.Pick) -> nn.Module:
        return nn.Sequential(*(_Outer(6) for _ in range(pick("n", (1, 2)))), _Shared(6))

    for seed in range(4):
        architecture = nested.sample(seed=seed)
        assert architecture.graph().rung == "meta"
        assert architecture.graph().to_json() == nasplat.capture(architecture.build(), (1, 6), program=False).to_json()


def test_a_block_used_at_two_sizes_counts_its_weights_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = _Shared(8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.part(x) + self.part(x[:, None, None]).flatten(1)

    @nasplat.space(example_input=(1, 8))
    def twice(pick: nasplat.Pick) -> nn.Module:
        pick("nothing", (1, 2))
        return Twice()

    nasplat.capture(_Shared(8), (1, 8), program=False)
    for seed in range(4):
        assert twice.sample(seed=seed).graph().params == 72
