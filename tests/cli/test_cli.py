"""The command line as a user meets it; bad input ends with one paragraph and code 2."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import click
import optuna
import pytest
from click.testing import CliRunner
from commands import CELLS, TINY, VIT, presets, run

import nasplat
from nasplat.cli import cli, main
from nasplat.runs import trials
from nasplat.runs.fields import fields_of
from nasplat.runs.kinds import KINDS
from nasplat.runs.searching import worker_words
from nasplat.study.storage import open_storage

CELL = "nasbench201:|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
SMALL = [*presets(VIT), f"--task={TINY}"]
QUICK = [*presets(CELLS), f"--task={TINY}"]


def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["nasplat", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert text.count("\n\n") == 0
    return text


def test_score_prints_intervals_and_baselines() -> None:
    rows = json.loads(
        run("score", CELL, "nasbench201:|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|none~2|", "--json")
    )
    assert [r["rank"] for r in rows] == [1, 2]
    assert rows[0]["network"] == CELL
    assert rows[0]["low"] < rows[0]["mean"] < rows[0]["high"]
    assert rows[0]["params"] == 802_426
    text = run("score", CELL)
    assert "MACs rank" in text
    assert "90% intervals" in text


def test_score_tells_milliseconds_on_devices_that_are_not_at_hand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("score", CELL, "yolo:yolo5n", "--predictor", "trees-nb201", "--device", "pixel2", "--device", "pi4-ort")
    text = run(*asked)
    assert "pixel2 ms" in text
    assert "pi4-ort ms" in text
    assert "yolo:yolo5n: outside what was timed on pixel2: " in text
    assert f"{CELL}: outside what was timed on pi4-ort: " in text
    rows = {r["network"]: {d["device"]: d for d in r["devices"]} for r in json.loads(run(*asked, "--json"))}
    for network, device in ((CELL, "pixel2"), ("yolo:yolo5n", "pi4-ort")):
        told = rows[network][device]
        assert told["low_ms"] < told["latency_ms"] < told["high_ms"]
        assert told["error_percent"] > 0
    assert "no device is named 'pixel22'" in fails(monkeypatch, capsys, "score", CELL, "--device", "pixel22")


def test_inspect_shows_operations() -> None:
    data = json.loads(run("inspect", CELL, "--json"))
    assert data["params"] == 802_426
    assert data["ops"]["conv"] > 10
    assert "stage0_cell0" in run("inspect", CELL, "--nodes")


OTHER = CELL.replace("nor_conv_3x3~0|avg", "nor_conv_1x1~0|avg").replace("skip_connect~2", "none~2")


def test_inspect_tells_costs_by_module() -> None:
    data = json.loads(run("inspect", CELL, "--json"))
    assert sum(m["macs"] for m in data["modules"]) == data["macs"]
    assert sum(m["params"] for m in data["modules"]) == data["params"]
    assert (data["known_share"], data["is_lower_bound"], data["rung"]) == (1.0, False, "meta")
    assert data["weight_bytes"] == {"float32": 4 * data["params"]}
    text = run("inspect", CELL)
    assert "stage0_cell0" in text
    assert "6.2%" in text
    assert "100.0% of the operations known" in text
    assert "stage0_cell0.edges" in run("inspect", CELL, "--depth", "2")
    assert "batchnorm" in run("inspect", CELL, "--ops")


def test_inspect_diff_shows_what_changes(tmp_path: Path) -> None:
    text = run("inspect", CELL, "--diff", OTHER, "--drawing", str(tmp_path / "diff.svg"))
    assert "conv3×3 16×32×32" in text
    assert "conv1×1 16×32×32" in text
    assert "macs: 113,951,360 → 82,494,080 (-27.6%)" in text
    assert "operations differ" in (tmp_path / "diff.svg").read_text(encoding="utf-8")
    data = json.loads(run("inspect", CELL, "--diff", OTHER, "--json"))
    assert not data["same_computation"]
    assert len(data["changes"]) == 30
    assert "the same computation" in run("inspect", CELL, "--diff", CELL)


def test_inspect_names_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Odd(nn.Module):\n    def forward(self, x):\n"
        "        return torch.special.bessel_j0(x)\n\ndef factory():\n    return nn.Sequential(nn.Linear(4, 4), Odd())\n",
        encoding="utf-8",
    )
    text = run("inspect", f"{tmp_path}/odd.py:factory", "--input", "1,4")
    assert "≥ 16 MACs" in text
    assert "unknown operations are not counted: special_bessel_j0" in text
    assert "operations known" not in text
    assert "unknown operation 'special_bessel_j0' in module '1'" in text
    assert "odd.py:6" in text


def test_graph_files_are_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    graph = nasplat.load_space("nasbench201").sample(seed=0).graph()
    (tmp_path / "graph.json").write_text(graph.to_json(), encoding="utf-8")
    assert json.loads(run("inspect", f"{tmp_path}/graph.json", "--json"))["key"] == graph.key
    (tmp_path / "none.json").write_text("[]", encoding="utf-8")
    assert "expected one of 0 graphs" in fails(monkeypatch, capsys, "inspect", f"{tmp_path}/none.json")
    assert "Check the path" in fails(monkeypatch, capsys, "inspect", f"{tmp_path}/nowhere.json")


def test_spaces_and_samples() -> None:
    names = {r["space"]: r["encodings"] for r in json.loads(run("spaces", "--json"))}
    assert names["nasbench201"] == 15_625
    assert {"easnet-small", "easnet-plus"} <= names.keys()
    lines = run("sample", "vit", "-n", "3", *presets(VIT)).splitlines()
    assert len({json.loads(line)["choices"]["embed"] for line in lines}) >= 1
    assert json.loads(run("inspect", lines[0], "--json"))["params"] > 0


def test_networks_that_read_tokens_are_measured(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("from torch import nn\nmake = lambda: nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))\n")
    (row,) = json.loads(run("measure", f"{file}:make", "--input", "1,6:int64", "--repeats", "5", "--json"))
    assert row["low_ms"] <= row["median_ms"]


def test_measure_and_export(tmp_path: Path) -> None:
    line = run("sample", "vit", *presets(VIT)).strip()
    (row,) = json.loads(run("measure", line, "--repeats", "5", "--json"))
    assert row["low_ms"] <= row["median_ms"] <= row["high_ms"]
    certificate = json.loads(run("export", line, str(tmp_path / "n.onnx"), "--batch", "3", "--json"))
    assert certificate["max_relative_error"] < 1e-4
    assert certificate["batch"] == certificate["inputs"][0]["shape"][0] == 3
    assert "agrees" in run("export", line, str(tmp_path / "n.onnx"), "--check")


def test_train_search_and_resume(trained: tuple[Path, str], searched: tuple[Path, str], tmp_path: Path) -> None:
    made, said = searched
    rows = json.loads(said)
    assert all(r["macs"] <= 300_000 for r in rows)
    assert (made / "best.onnx").exists()
    shutil.copytree(made, tmp_path / "run")
    arguments = ["search", "vit", *SMALL, "--trials=5", "--limit=macs=300000", "--train.epochs=1", "--json"]
    assert json.loads(run(*arguments, "--out", str(tmp_path / "run"))) == rows
    storages = (open_storage(str(folder / "study.journal")) for folder in (made, tmp_path / "run"))
    first, again = (optuna.load_study(study_name="nasplat", storage=s).get_trials() for s in storages)
    assert first == again  # nothing was evaluated anew
    about = json.loads((made / "run.json").read_text(encoding="utf-8"))
    assert about["versions"]["torch"]
    assert {r["subnet"] for r in json.loads(trained[1])} == {"largest", "smallest", "random"}


def test_a_found_subnet_is_trained_further_reported_and_replayed(trained: tuple[Path, str], tmp_path: Path) -> None:
    found, out = str(tmp_path / "found"), str(tmp_path / "further")
    net = str(shutil.copytree(trained[0], tmp_path / "net"))  # a report is written into it
    # no --train settings again
    run("search", "vit", "--supernet", net, "--out", found, "--trials", "3", "--guide", "none", *SMALL, "--json")
    row = json.loads(run("train", "vit", "--from", found, "--out", out, *SMALL, "--train.epochs=1", "--json"))
    assert row["max_relative_error"] < 1e-4
    assert (tmp_path / "further" / "best.onnx").exists()
    chosen = json.loads((tmp_path / "found" / "chosen.json").read_text(encoding="utf-8"))["architecture"]
    assert json.loads((tmp_path / "further" / "chosen.json").read_text(encoding="utf-8"))["architecture"] == chosen
    page = Path(run("report", net).strip()).read_text(encoding="utf-8")
    assert "Training of the supernet" in page
    assert "the eight random subnets" in page
    assert page.count("<svg class='curve'") == 4
    assert "Exported file" in Path(run("report", out).strip()).read_text(encoding="utf-8")
    for words, text in (
        (["--subnet", row["architecture"]], "expected --from beside --subnet"),
        (["--from", found, "--kernel-transforms"], "expected --from without --teacher and --kernel-transforms"),
        (["--from", net], "expected a run with a chosen network"),
    ):
        refused = CliRunner().invoke(cli, ["train", "vit", "--out", str(tmp_path / "x"), *SMALL, *words])
        assert text in str(refused.exception)


def test_label_fit_and_evaluate(tmp_path: Path) -> None:
    table = str(tmp_path / "t.csv.gz")
    assert (
        json.loads(run("label", "vit", "-n", "2", "--out", table, *SMALL, "--budget.epochs=1", "--json"))["rows"] == 2
    )

    space = nasplat.load_space("nasbench201", width=4, cells=1)
    rows = ["architecture,acc"]
    for i in range(90):
        architecture = space.sample(seed=i)
        rows.append(f'"{space.format(architecture)}",{architecture.graph().macs ** 0.5}')
    (tmp_path / "made.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    common = ["--table", str(tmp_path / "made.csv"), "--space", "nasbench201", "--metric", "acc"]
    common += ["--preset", "width=4", "--preset", "cells=1"]
    fitted = json.loads(
        run("fit", *common, "--family", "count", "--out", str(tmp_path / "p"), "--seeds", "0", "--json")
    )
    judged = json.loads(run("evaluate", str(tmp_path / "p"), *common, "--json"))
    assert judged["kendall_tau"] == fitted[0]["kendall_tau"]


def test_doctor_finds_everything_well() -> None:
    rows = json.loads(run("doctor", "--json"))
    assert all(r["ok"] for r in rows)
    assert any(r["check"] == "predictor trees-nb201" for r in rows)


def test_demo_runs_small_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nasplat.runs import demo
    from nasplat.task.training import Budget

    tiny = demo.Scale(1, 3, 2, 1, Budget(epochs=1, batch_size=64, lr=5e-3), 1.2e6)
    monkeypatch.setattr(demo, "TASK", TINY)
    monkeypatch.setattr(demo, "cores", lambda: 1)
    monkeypatch.setattr(demo, "FAST", tiny)
    first = json.loads(run("demo", "--fast", "--out", str(tmp_path / "d"), "--json"))
    assert len(first["scored"]) >= 5
    assert all(r["low"] < r["mean"] < r["high"] for r in first["scored"])
    assert first["export"]["max_relative_error"] < 1e-4
    assert (tmp_path / "d" / "best.onnx").exists()
    assert "Pareto set" in (tmp_path / "d" / "results.md").read_text(encoding="utf-8")
    again = json.loads(run("demo", "--fast", "--out", str(tmp_path / "d"), "--json"))
    assert again["pareto"] == first["pareto"]
    assert again["found_test"] == first["found_test"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "nowhere.py:net"], "does not exist"),
        (["sample", "nasbench2001"], "Did you mean 'nasbench201'?"),
        (["inspect", CELL.replace("nor_conv_3x3~0", "nor_conv_9x9~0", 1)], "got 'nor_conv_9x9'"),
        (["score", CELL, "--predictor", "oracle"], "no predictor is named 'oracle'"),
        (["sample", "vit", "--preset", "colour=1"], "has presets size, image"),
        (["sample", "vit", "--preset", "colour"], "expected NAME=VALUE"),
        (["inspect", CELL, "--input", "a,b"], "numbers with commas"),
        (["train", "vit", "--out", "x", "--train.speed=3"], "got '--train.speed=3'"),
        (
            ["train", "vit", "--out", "x", "--task", "nothing"],
            "a folder of image files, or text: and a file, got 'nothing'",
        ),
    ],
)
def test_bad_input_is_one_paragraph(
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in fails(monkeypatch, capsys, *arguments)


def test_broken_space_files_are_one_paragraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def broken(:\n", encoding="utf-8")
    assert "mine.py:1: syntax error" in fails(monkeypatch, capsys, "sample", str(file))
    file.write_text(
        "import torch\nfrom nasplat import space\n@space(example_input=(1, 4))\ndef mine(pick):\n    pick('a', (1, 2))\n"
        "    layer = torch.nn.Linear(4, 4)\n    pick('b', (1, 2))\n    return layer\n",
        encoding="utf-8",
    )
    text = fails(monkeypatch, capsys, "inspect", f"{file}:" + '{"a": 1}')
    assert "picked after the first module" in text
    assert "picked after the first module" in fails(monkeypatch, capsys, "sample", str(file))


def test_debug_shows_the_traceback() -> None:
    code = [sys.executable, "-m", "nasplat", "--debug", "sample", "nowhere"]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr


def test_search_in_stages_says_why_and_resumes_with_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = partial(trials.search_in_stages, costs=(0.001, 1.0), candidates=30)
    monkeypatch.setattr(trials, "search_in_stages", quick)
    words = ["search", "nasbench201", *QUICK, "--out", str(tmp_path / "run")]
    words += ["--stages=predicted,trained:1", "--minimize=none"]
    said = run(*words, "--budget=12")
    assert "agreement" in said
    assert re.search("predicted +0.00 +0.001 +left out", said)  # the guide never saw cells of this width
    assert re.search("trained:1 +1.00 +1 +4 +100%", said)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Stages</h2>" in page
    assert "A pilot of 8 random networks" in page
    assert json.loads(run(*words, "--budget=14", "--json"))
    assert "--stages and --budget together" in fails(monkeypatch, capsys, *words)


def test_a_run_or_a_network_teaches_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("train", "nasbench201", *QUICK, "--out", str(tmp_path / "cnn"), "--train.epochs=1", "--json")
    taught = ["train", "vit", *SMALL, "--train.epochs=1", "--train.strategy=ovo", "--train.joint=false", "--json"]
    before = (tmp_path / "cnn" / "supernet" / "supernet.safetensors").read_bytes()
    assert len(json.loads(run(*taught, "--out", str(tmp_path / "a"), "--teacher", str(tmp_path / "cnn")))) == 3
    assert (tmp_path / "cnn" / "supernet" / "supernet.safetensors").read_bytes() == before
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef factory():\n    return nn.Sequential(nn.Flatten(), nn.Linear(256, 10))\n",
        encoding="utf-8",
    )
    assert len(json.loads(run(*taught, "--out", str(tmp_path / "b"), "--teacher", f"{tmp_path}/net.py:factory"))) == 3
    said = fails(
        monkeypatch,
        capsys,
        *[w for w in taught if "ovo" not in w],
        "--out",
        str(tmp_path / "c"),
        "--teacher",
        str(tmp_path / "cnn"),
    )
    assert "expected strategy 'ovo'" in said


def test_a_second_host_finds_the_supernet_by_its_hash(tmp_path: Path) -> None:
    words = ["search", "vit", "--guide", "none", *SMALL, "--train.epochs=1"]
    words += ["--storage", f"sqlite:///{tmp_path}/s.db", "--json"]
    run(*words, "--out", str(tmp_path / "a"), "--trials", "2")
    assert (tmp_path / "a" / "supernet" / "supernet.safetensors").exists()
    run(*words, "--out", str(tmp_path / "b"), "--trials", "4")
    assert not (tmp_path / "b" / "supernet").exists()  # nothing was trained again
    assert (tmp_path / "b" / "best.onnx").exists()
    study = optuna.load_study(study_name="nasplat", storage=open_storage(f"sqlite:///{tmp_path}/s.db"))
    assert len([t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]) == 4


def test_search_prunes_trainings_only(tmp_path: Path) -> None:
    words = ["search", "nasbench201", *QUICK, "--guide=none", "--prune", "--trials=1"]
    refused = CliRunner().invoke(
        cli, [*words, "--maximize=predicted", "--guide=trees-nb201", "--out", str(tmp_path / "a")]
    )
    assert "objective with a learning curve" in str(refused.exception)
    done = CliRunner().invoke(cli, [*words, "--maximize=trained", "--out", str(tmp_path / "b"), "--json"])
    assert done.exit_code == 0, done.output
    assert (
        len(optuna.load_study(study_name="nasplat", storage=open_storage(str(tmp_path / "b" / "study.journal"))).trials)
        == 1
    )


def test_words_of_a_worker_name_the_guide_and_one_worker() -> None:
    asked = nasplat.SearchRun("s", maximize="trained", prune=True, trials=3, workers=4)
    found = worker_words(asked, "base", nasplat.RunFolder("o"))
    assert found == [
        *("search", "s", "--maximize=trained", "--trials=3", "--guide=base", "--prune"),
        *("--out", "o", "--json"),
    ]
    made = nasplat.load_task("digits-clutter?train=64&decide=32&test=32")
    assert worker_words(nasplat.SearchRun("s", made), "base", nasplat.RunFolder("o")) == []


def test_a_toml_file_is_a_command_whose_words_win(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'space = "nasbench201"\ntask = "digits-clutter?train=64&decide=32&test=32"\nmaximize = "trained:1"\n'
        'guide = "none"\ntrials = 5\n[presets]\nwidth = 4\ncells = 1\nimage = 16\nchannels = 1\n',
        encoding="utf-8",
    )
    run("search", "--config", str(file), "--trials", "1", "--out", str(tmp_path / "run"), "--json")
    made = nasplat.RunFolder(tmp_path / "run").run
    assert made == nasplat.SearchRun.from_toml(file, ["--trials=1"])


def test_options_of_runs_are_their_fields_with_their_sentences() -> None:
    for verb in ("search", "train", "label", "improve", "demo"):
        shown = {o for p in cli.commands[verb].params for o in p.opts}
        kind = KINDS[verb]
        for field in fields_of(kind.__name__):
            names = [f"{field.option}.{p.name}" for p in field.parts] or [field.option]
            assert field.is_positional or set(names) <= shown
        text = CliRunner().invoke(cli, [verb, "--help"]).output
        assert " ".join(fields_of(kind.__name__)[-1].sentence.split()[:3]) in text or fields_of(kind.__name__)[-1].parts


def test_help_of_every_verb_is_whole_and_loads_neither_torch_nor_optuna() -> None:
    code = "import sys; from nasplat.cli import cli\nfor verb in cli.commands: cli.main([verb, '--help'], standalone_mode=False)\n"
    code += "print([m for m in ('torch', 'optuna', 'sklearn') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"
    for name, command in cli.commands.items():
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, f"{name} {option.name} has no help"
                assert not option.help.startswith("Of "), f"{name} {option.name}"
                assert len(option.help.split()) > 4, f"{name} {option.name}"


def test_a_fitted_predictor_answers_the_predicted_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "search_in_stages", partial(trials.search_in_stages, costs=(0.001, 1.0), candidates=30))
    words = ["search", "nasbench201", *QUICK, "--out", str(tmp_path / "run"), "--stages=predicted,trained:1"]
    words += ["--minimize=none", "--guide=fitted", "--pilots=20", "--budget=10", "--json"]
    assert json.loads(run(*words))
    study = optuna.load_study(study_name="nasplat/1", storage=open_storage(str(tmp_path / "run" / "study.journal")))
    assert study.metric_names == ["rank score of trained accuracy_percent, 1 epoch"]
    assert (tmp_path / "run" / "quality" / "pilots.csv").read_text(encoding="utf-8").count("nasbench201") == 20
    assert len([t for t in study.trials if t.state == optuna.trial.TrialState.COMPLETE]) >= 8


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("--train.bf16=maybe", "--train.bf16"),
        ("--train.epochs=2.5", "--train.epochs"),
        ("--train.strategy=3", "strategy"),
        ("--trails=2", "--trails=2"),
        ("--limt=macs=3", "--limt=macs=3"),
    ],
)
def test_values_of_another_type_and_unknown_options_are_refused(
    word: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in (["train"], ["search", "--maximize=trained", "--guide=none", "--trials=1"]):
        said = fails(monkeypatch, capsys, *verb, "nasbench201", *QUICK, "--out", str(tmp_path / "run"), word)
        assert text in said
    assert not (tmp_path / "run").exists()


def test_files_devices_and_numbers_that_do_not_fit_are_one_paragraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "dir.onnx").mkdir()
    for words in (
        ["train", "nasbench201", *QUICK, "--out", str(tmp_path / "file"), "--train.epochs=1"],
        ["train", "nasbench201", *QUICK, "--out", str(tmp_path / "a"), "--device=tpu"],
        ["measure", CELL, "--device=tpu"],
        ["inspect", CELL, "--drawing", str(tmp_path)],
        ["sample", "nasbench201", "--limit", "macs=[1]"],
        ["fit", "--table=x.csv", "--space=vit", "--metric=y", "--seeds=a", "--out", str(tmp_path / "c")],
        ["replay", str(tmp_path)],
        ["report", str(tmp_path)],
        ["report", str(tmp_path / "nowhere"), "--json"],
    ):
        fails(monkeypatch, capsys, *words)
    refused = CliRunner().invoke(cli, ["measure", CELL, "--batch=-1"])
    assert refused.exit_code == 2
    assert "is not in the range x>=1" in refused.stderr
    assert "expected trials >= 1, got 0" in fails(monkeypatch, capsys, "search", "vit", "--trials=0", "--out", "x")


def test_a_search_that_nothing_answers_ends_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "nasbench201", *QUICK, "--maximize=predicted", "--out", str(tmp_path / "a")]
    assert "expected answers of 'predicted" in fails(monkeypatch, capsys, *words)
    words = ["search", "nasbench201", *QUICK, "--maximize=trained", "--trials=1", "--out", str(tmp_path / "b")]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert "guide trees-nb201: it was trained on nasbench201" in result.stdout
    assert "guide trees-nb201 abstained on all 1 networks" in result.stderr


def test_a_report_tells_its_path_as_json(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["search", "nasbench201", *QUICK, "--maximize=trained", "--guide=none", "--trials=1", "--out", str(out)]
    run(*words)
    assert json.loads(run("report", str(out), "--json")) == {"report": str(out / "report.html"), "verb": "search"}
