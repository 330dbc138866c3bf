"""How long does a browser take to open the report of a large study, and the drawing of a large graph?

A made-up study of 20,000 trials of two objectives with predicted intervals; a graph of 8,000 operations in the place of the chosen network.
Milliseconds from the start of loading until everything is laid out, of a headless Chromium.

    python benchmarks/bench_report.py
"""

from __future__ import annotations

import random
import re
import subprocess
import tempfile
import time
from pathlib import Path

import optuna
from bench_large_graph import long_network

import nasplat
from nasplat.graph.drawing import draw
from nasplat.runs.folder import hardware, versions
from nasplat.runs.page import render
from nasplat.study.captured import facts_of

LAID_OUT = (
    "<script>document.body.getBoundingClientRect();document.title='after '+performance.now().toFixed(0)+' ms, '"
    "+document.querySelectorAll('*').length+' elements'</script></body>"
)


def study_of(trials: int) -> optuna.Study:
    space = nasplat.load_space("vit", size="mini", image=16, patch=4, channels=1, classes=10, head_dim=8)
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.set_metric_names(["accuracy", "macs"])
    rng, members, made = random.Random(0), [space.sample(seed=i) for i in range(400)], list[optuna.trial.FrozenTrial]()
    for number in range(trials):
        member = members[number % len(members)]
        facts = facts_of(member)
        accuracy = 60 + 8 * (facts.macs / 5e5) ** 0.3 + rng.gauss(0, 2)
        expected = accuracy + rng.gauss(0, 2)
        about = {
            "architecture": member.to_json(),
            "key": facts.key,
            "macs": facts.macs,
            "params": facts.params,
            "predicted": expected,
        }
        about |= {"predicted_low": expected - 4, "predicted_high": expected + 4, "predicted_objective": 0}
        kinds = {n: optuna.distributions.CategoricalDistribution(space.known[n]) for n in member.choices}
        values, params = [accuracy, facts.macs + rng.randrange(1000)], dict(member.choices)
        made.append(optuna.trial.create_trial(values=values, params=params, distributions=kinds, user_attrs=about))
    study.add_trials(made)
    return study


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{hardware()}, {versions()}\n\n| page | seconds to write | MiB | opened |\n|---|---|---|---|")
    about = {
        "verb": "search",
        "settings": {"space": "vit"},
        "command": "nasplat search",
        "versions": {},
        "hardware": {},
    }
    graph = nasplat.capture(long_network(8_000), (1, 16, 8, 8))
    for trials in (1_000, 20_000):
        study = study_of(trials)
        started = time.perf_counter()
        page = render(study, about, None, None, Path("run"))
        seconds = time.perf_counter() - started
        large = page.replace(
            "<div class='drawing'>", f"<div class='drawing'>{draw(graph)}</div><div class='drawing'>", 1
        )
        for name, text in (
            (f"{trials:,} trials", page),
            (f"{trials:,} trials and {graph.num_nodes:,} operations", large),
        ):
            print(f"| {name} | {seconds:.1f} | {len(text) / 2**20:.1f} | {opened(text)} |", flush=True)


def opened(page: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(page.replace("</body>", LAID_OUT), encoding="utf-8")
        words = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=940,1200",
            "--dump-dom",
            file.as_uri(),
        ]
        dom = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    found = re.search("<title>(.*?)</title>", dom)
    return found[1] if found else "never"


if __name__ == "__main__":
    main()
