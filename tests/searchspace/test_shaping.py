"""The task shapes the space: presets that a task decides are found, set, told, and checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nasplat
from nasplat.errors import SpaceError, SupernetError
from nasplat.searchspace.shaping import shaped_presets
from nasplat.task.judging import distance

PRESETS = {"vit": {"size": "mini", "patch": 4}, "pit": {"patch": 4, "stride": 2}}
"""Presets without which small images have no two patches."""
NUMBERS: dict[str, Any] = {"loss": F.mse_loss, "metric": distance}
"""Fields of a task whose targets are no classes."""


def made(channels: int, height: int, width: int, classes: int) -> nasplat.Task:
    x, y = torch.zeros(2 * classes, channels, height, width), torch.arange(2 * classes) % classes
    return nasplat.Task.from_arrays((x, y), (x, y), name=f"made {channels} x {height} x {width}")


@pytest.fixture(scope="module")
def digits() -> nasplat.Task:
    return nasplat.load_task("digits-clutter", train=64, decide=32, test=32)


@pytest.fixture(scope="module")
def tasks(digits: nasplat.Task) -> list[nasplat.Task]:
    return [digits, made(3, 32, 32, 100), made(1, 28, 28, 3)]


NO_IMAGE_CLASSES = {"easnet", "gpt", "nasbench_graph", "signal", "unet", "yolo"}
"""Spaces whose networks read no images, or tell no classes of them."""


@pytest.mark.parametrize("name", [n for n in nasplat.list_spaces() if n not in NO_IMAGE_CLASSES])
def test_every_space_fits_every_task_of_images(name: str, tasks: list[nasplat.Task]) -> None:
    for task in tasks:
        space = nasplat.load_space(name, **PRESETS.get(name, {})).for_task(task)
        graph = space.sample(seed=0).graph()
        assert graph.nodes[0].shape == (1, *task.input_shape), task
        assert graph.nodes[-1].shape == (1, task.classes), task
        assert space.from_task.endswith(f"channels={task.channels}, classes={task.classes} from the task")
        assert space.for_task(task) is space  # nothing is left to decide


@pytest.mark.parametrize("name", ["nasbench201", "ofa_mobilenetv3", "vit"])
def test_shaped_networks_answer_real_images(name: str, digits: nasplat.Task) -> None:
    module = nasplat.load_space(name, **PRESETS.get(name, {})).for_task(digits).extreme(False).build()
    assert module.eval()(digits.decide.x[:2]).shape == (2, 10)


def test_stereo_space_takes_pairs_of_any_size_and_no_single_images(digits: nasplat.Task) -> None:
    pairs = torch.zeros(2, 6, 32, 64)
    stereo = nasplat.Task.from_arrays((pairs, pairs[:, 0]), (pairs, pairs[:, 0]), **NUMBERS)
    space = nasplat.load_space("easnet-small")
    assert space.for_task(stereo).from_task == "height=32, width=64 from the task"
    with pytest.raises(SpaceError, match=r"its networks take \(6, 16, 16\).*\n.*set another of its presets scales="):
        space.for_task(digits)


def test_sequences_and_maps_shape_their_spaces() -> None:
    y = torch.arange(6) % 3
    sequences = nasplat.Task.from_arrays((torch.rand(6, 2, 96), y), (torch.rand(6, 2, 96), y))
    space = nasplat.load_space("signal").for_task(sequences)
    assert space.from_task == "channels=2, length=96, classes=3 from the task"
    for kind in ("plain", "residual", "gru", "attention"):
        choices = {"kind": kind, "summary": "mean", "width": 8, "depth": 1, "kernel": 3, "stride": 2}
        assert space.architecture(choices).build()(sequences.train.x).shape == (6, 3)
    x, maps = torch.rand(4, 1, 16, 16), torch.arange(4 * 256).reshape(4, 16, 16) % 5
    segments = nasplat.Task.from_arrays((x, maps), (x, maps))
    assert nasplat.load_space("unet").for_task(segments).sample(seed=0).build()(x).shape == (4, 5, 16, 16)


def test_vectors_go_through_perceptrons_of_that_length() -> None:
    assert nasplat.load_space("mlp", features=30).sample(seed=0).build().eval()(torch.rand(2, 30)).shape == (2, 10)


def test_given_presets_win(digits: nasplat.Task) -> None:
    given = nasplat.load_space("nasbench201", width=4, image=32, classes=7)
    shaped = given.for_task(digits)
    assert shaped.presets == {"width": 4, "image": 32, "classes": 7, "channels": 1}
    assert shaped.from_task == "channels=1 from the task"
    whole = given.with_presets(channels=1)
    assert whole.for_task(digits) is whole


def test_numbers_that_are_the_defaults_leave_the_space_as_it_is() -> None:
    space = nasplat.load_space("nasbench201")
    shaped = space.for_task(made(3, 32, 32, 10))
    assert shaped == space
    assert shaped.reference == space.reference
    assert shaped.from_task == "image=32, channels=3, classes=10 from the task"


def test_shaped_space_survives_its_json(digits: nasplat.Task) -> None:
    member = nasplat.load_space("ofa_mobilenetv3").for_task(digits).sample(seed=1)
    again = nasplat.Architecture.from_json(member.to_json())
    assert again.graph().key == member.graph().key
    assert json.loads(member.to_json())["presets"]["resolutions"] == [16]


def test_supernets_take_a_shaped_space(digits: nasplat.Task) -> None:
    space = nasplat.load_space("nasbench201", width=4, cells=1)
    with pytest.raises(SupernetError, match=r"image=16, channels=1; space.for_task\(task\) takes them"):
        nasplat.Supernet(space, digits)
    assert nasplat.Supernet(space.for_task(digits), digits).space.presets["image"] == 16


# -- what a task states ------------------------------------------------------------------------------------------------


def test_tasks_state_their_numbers() -> None:
    square = made(3, 8, 8, 5)
    assert square.shapes == {"channels": 3, "height": 8, "width": 8, "image": 8, "classes": 5}
    assert (square.image, square.channels, square.outputs) == (8, 3, 5)
    assert made(3, 8, 6, 5).image is None
    vectors, places = torch.zeros(4, 9), torch.zeros(4, 2)
    assert nasplat.Task.from_arrays(*[(vectors, places)] * 2, **NUMBERS).shapes == {"features": 9, "classes": 2}
    images, maps = torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 8, 8)
    assert "classes" not in nasplat.Task.from_arrays((images, maps), (images, maps), **NUMBERS).shapes
    waves, one = torch.zeros(4, 2, 50), torch.zeros(4)
    heights = nasplat.Task.from_arrays((waves, one), (waves, one), **NUMBERS)
    assert heights.shapes == {"channels": 2, "length": 50, "classes": 1}
    tokens = nasplat.Split(torch.arange(12).reshape(4, 3), torch.arange(4))
    assert nasplat.Task("text", tokens, tokens, tokens).shapes == {"length": 3, "vocabulary": 12, "classes": 4}


def test_tokens_decide_length_and_vocabulary() -> None:
    @nasplat.space(example_input=lambda length=4, **presets: torch.zeros(1, length, dtype=torch.int64))
    def words(pick: nasplat.Pick, length: int = 4, vocabulary: int = 7, classes: int = 2) -> nn.Module:
        width = pick("width", (4, 8))
        return nn.Sequential(nn.Embedding(vocabulary, width), nn.Flatten(), nn.Linear(length * width, classes))

    tokens = nasplat.Split(torch.arange(30).reshape(10, 3), torch.arange(10) % 5)
    shaped = words.for_task(nasplat.Task("text", tokens, tokens, tokens))
    assert shaped.from_task == "length=3, classes=5, vocabulary=30 from the task"
    assert shaped.sample(seed=0).graph().nodes[-1].shape == (1, 5)


# -- what a space declares ---------------------------------------------------------------------------------------------


def test_hidden_channels_are_not_taken_for_those_of_the_input(digits: nasplat.Task) -> None:
    @nasplat.space(example_input=(1, 1, 16, 16))
    def hidden(pick: nasplat.Pick, channels: int = 8, classes: int = 4) -> nn.Module:
        kernel = pick("kernel", (3, 5))
        return nn.Sequential(
            nn.Conv2d(1, channels, kernel), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
        )

    assert shaped_presets(hidden) == {"classes": "classes"}
    assert hidden.for_task(digits).presets == {"classes": 10}
    nasplat.check_space(hidden, samples=2)


def pooled(pick: nasplat.Pick, inputs: int = 3, outputs: int = 10) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, pick("kernel", (3, 5)))
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_space_of_any_size_takes_that_of_the_task() -> None:
    declared = nasplat.space(
        (1, 3, 32, 32), {"height": "height", "width": "width", "classes": "outputs"}, any_size=True
    )
    space = declared(pooled)
    nasplat.check_space(space, samples=2)
    shaped = space.for_task(made(3, 24, 48, 5))
    assert shaped.from_task == "height=24, width=48, outputs=5 from the task"
    member = shaped.sample(seed=0)
    assert member.example_input == (1, 3, 24, 48)
    assert space.sample(seed=0).example_input == (1, 3, 32, 32)
    assert member.graph().nodes[-1].shape == (1, 5)


def test_space_of_any_size_is_found_again_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import nasplat\nfrom torch import nn\n\n\n@nasplat.space((1, 3, 32, 32), any_size=True)\n"
        "def mine(pick, **others):\n    conv = nn.Conv2d(3, 4, pick('kernel', (3, 5)))\n"
        "    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten())\n",
        encoding="utf-8",
    )
    member = nasplat.load_space(str(file)).for_task(made(3, 24, 48, 4)).sample(seed=1)
    again = nasplat.Architecture.from_json(member.to_json())
    assert again == member
    assert again.example_input == (1, 3, 24, 48)


def test_any_size_needs_a_shape_and_no_presets_of_these_names() -> None:
    with pytest.raises(SpaceError, match="expected example_input as a shape"):
        nasplat.space(lambda **presets: (1, 3, 32, 32), any_size=True)(pooled)


def test_declared_preset_must_exist() -> None:
    space = nasplat.space((1, 3, 32, 32), {"classes": "labels"})(pooled)
    with pytest.raises(SpaceError, match="'labels', which is none of its presets inputs, outputs"):
        nasplat.check_space(space, samples=1)
    unknown = nasplat.space((1, 3, 32, 32), {"colours": "inputs"})(pooled)
    with pytest.raises(SpaceError, match="a task states image, height"):
        unknown.for_task(made(3, 32, 32, 4))


def test_declared_preset_must_change_the_shape() -> None:
    inputs = nasplat.space((1, 3, 32, 32), {"channels": "inputs"})(pooled)
    with pytest.raises(
        SpaceError, match=r"with 4 instead of 3 the input goes from \(1, 3, 32, 32\) to \(1, 3, 32, 32\)"
    ):
        nasplat.check_space(inputs, samples=1)

    @nasplat.space(example_input=lambda image=32, **presets: (1, 3, image, image))
    def deaf(pick: nasplat.Pick, image: int = 32, classes: int = 10) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, pick("kernel", (3, 5))), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    with pytest.raises(SpaceError, match=r"a task's classes decides preset 'classes', .* from \(1, 4\) to \(1, 4\)"):
        nasplat.check_space(deaf, samples=1)


# -- what does not fit -------------------------------------------------------------------------------------------------


def test_message_names_the_presets_that_this_space_has() -> None:
    with pytest.raises(SpaceError, match=r"multiple of patch=16, got 28.*\n.*presets size='tiny', patch=16, head_dim"):
        nasplat.load_space("vit").for_task(made(1, 28, 28, 3))
    with pytest.raises(SpaceError, match=r"at image=8, channels=1, classes=3: (?s:.*)patch=16, stride=8"):
        nasplat.load_space("pit").for_task(made(1, 8, 8, 3))


# -- labels ------------------------------------------------------------------------------------------------------------


def test_labels_of_before_go_on_as_they_were(tmp_path: Path) -> None:
    task, journal = "digits-clutter?train=64&decide=32&test=32", str(tmp_path / "labels.journal")
    before = nasplat.load_space("vit", size="mini", patch=4, image=16, channels=1)
    budget = nasplat.Budget(epochs=1, batch_size=32)
    nasplat.label(before, task, 1, budget, storage=journal)
    from nasplat.workflows.label import space_as_stored

    loaded = nasplat.load_task(task)
    assert space_as_stored(before, loaded, journal) is before
    assert space_as_stored(before, loaded).presets["classes"] == 10
    assert len(nasplat.label("nasbench_macro", loaded, 1, budget)) == 1
