"""Pages of runs: well-formed, self-contained, escaped."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import optuna
import pytest
from commands import CELLS, run

import nasplat
from nasplat.errors import SearchError
from nasplat.runs.charts import expectation
from nasplat.runs.folder import RunFolder
from nasplat.runs.kinds import SearchRun
from nasplat.runs.page import render
from nasplat.study.ledger import STOPPED
from nasplat.study.storage import open_storage


def test_the_report_compares_what_was_expected_with_what_was_measured() -> None:
    space = nasplat.load_space("nasbench201", **CELLS)
    objective = lambda a: float(len(set(a.choices.values())))  # noqa: E731
    sampler = nasplat.PredictorSampler(lambda a: 100.0 - objective(a), pool=16, startup=4)
    study = nasplat.search(space, minimize=["macs"], maximize=[objective], n_trials=12, sampler=sampler)
    found = expectation(study.trials, ["quality", "macs"])
    assert found is not None
    data, text = found.data, found.text
    assert "on 8 networks; MACs alone" in text  # those after the start
    assert "The guide's answers: -1.00 on 12" in text
    assert "with an interval of two standard deviations" in text
    assert len(data["points"]) == 8
    assert all(low <= predicted <= high for predicted, _, _, _, low, high in data["points"])


def many(trials: int, space: nasplat.Space) -> optuna.Study:
    """A made-up study of two objectives with predicted intervals; the first depends on one choice alone."""
    study = optuna.create_study(study_name="nasplat", directions=["maximize", "minimize"])
    study.set_metric_names(["quality", "macs"])
    members, rng, made = [space.sample(seed=i) for i in range(60)], random.Random(0), []
    for number in range(trials):
        member = members[number % len(members)]
        graph, quality = member.graph(), 5.0 * (member.choices["0->1"] == "nor_conv_3x3") + rng.gauss(0, 0.5)
        about = {"architecture": member.to_json(), "key": graph.key, "macs": graph.macs, "params": graph.params}
        about |= {
            "predicted": quality + 0.1,
            "predicted_low": quality - 1,
            "predicted_high": quality + 1,
            "predicted_objective": 0,
        }
        distributions = {n: optuna.distributions.CategoricalDistribution(space.known[n]) for n in member.choices}
        values, params = [quality, graph.macs + rng.random()], dict(member.choices)
        trial = optuna.trial.create_trial(values=values, params=params, distributions=distributions, user_attrs=about)
        made.append(trial)
    study.add_trials(made)
    return study


ABOUT = {
    "verb": "search",
    "settings": {"space": "made up"},
    "command": "nasplat search",
    "versions": {},
    "hardware": {},
}


def test_the_choice_that_matters_stands_first_and_neighbours_are_compared() -> None:
    space = nasplat.load_space("nasbench201", **CELLS)
    study = many(200, space)
    page = render(study, ABOUT, None, None, Path("run"))
    table = page[page.index("Importance of choices") : page.index("Chosen network")]
    assert re.findall("<code>(.*?)</code>", table)[0] in {"0-&gt;1"}
    compared = page[page.index("Neighbours in the Pareto set") :]
    assert compared.count("<details>") == min(7, len(study.best_trials)) - 1
    assert "operations differ" in compared
    few = render(many(10, space), ABOUT, None, None, Path("run"))
    assert "Importance of choices" not in few


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the chromium browser")
def test_a_browser_draws_all_charts_of_a_large_study(tmp_path: Path) -> None:
    space = nasplat.load_space("nasbench201", **CELLS)
    page = render(many(4_500, space), ABOUT, None, None, Path("run"))
    assert len(page) < 4_000_000
    counted = "document.title=[...document.querySelectorAll('svg.chart')].map(s=>s.querySelectorAll('circle').length).join(' ')"
    file = tmp_path / "report.html"
    # in front of the policy, which lets nothing but the page's own script run behind it
    counting = f"<head><script>addEventListener('load',()=>{{{counted}}})</script>"
    file.write_text(page.replace("<head>", counting), encoding="utf-8")
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", file.as_uri()]
    dom = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False).stdout
    title = re.search("<title>(.*?)</title>", dom)
    assert title is not None
    pareto, history, agreement = (int(n) for n in title[1].split())
    assert 2000 < pareto <= 4100
    assert 2000 < history <= 4100
    assert 500 < agreement <= 1000
    assert dom.count('stroke-dasharray="5 4"') == 1


def test_stopped_trainings_are_not_refusals(tmp_path: Path) -> None:
    study = optuna.create_study(study_name="nasplat", storage=open_storage(str(tmp_path / "study.journal")))
    for reason in ({STOPPED: 2}, {STOPPED: 1}, {"reason": "macs 9 > 5"}):
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.PRUNED, user_attrs=reason))
    RunFolder(tmp_path).describe(SearchRun("none"))
    page = nasplat.write_report(tmp_path).read_text(encoding="utf-8")
    assert "2 stopped in training, 1 refused before they cost anything" in page


def test_search_ends_with_a_report_and_can_be_replayed(searched: tuple[Path, str], tmp_path: Path) -> None:
    page = (searched[0] / "report.html").read_text(encoding="utf-8")
    for words_there in (
        "Pareto set",
        "History",
        "Chosen network",
        "Exported file",
        "nasplat replay run",
    ):
        assert words_there in page
    assert "Predicted against measured" not in page  # the model has learnt from too few trials to expect anything
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    ids = re.findall(r"\bid=['\"]([^'\"]+)", page.split("<script>")[0])
    assert len(ids) == len(set(ids))  # the page's script finds its parts by id
    data = page.split("id='pareto-data'>")[1].split("</script>")[0]
    assert len(json.loads(data)["points"]) == 5
    shutil.copytree(searched[0], tmp_path / "run")
    again = json.loads(run("replay", str(tmp_path / "run"), "--yes", "--json"))
    assert again == {"trials": 5, "equal": 5}
    assert str(tmp_path / "run" / "report.html") in run("report", str(tmp_path / "run"))


def test_drawing_from_the_command_line(tmp_path: Path) -> None:
    run(
        "inspect",
        "vit:" + nasplat.load_space("vit").format(nasplat.load_space("vit").sample(seed=0)),
        "--drawing",
        str(tmp_path / "n.svg"),
    )
    ET.parse(tmp_path / "n.svg")


def test_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="expected a run folder"):
        nasplat.write_report(tmp_path)
    (tmp_path / "run.json").write_text('{"settings": {}}', encoding="utf-8")
    with pytest.raises(SearchError, match="no study yet"):
        nasplat.write_report(tmp_path)
