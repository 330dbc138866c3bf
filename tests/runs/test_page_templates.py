"""Whatever a run folder says, the report shows it as text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import optuna
import pytest

import nasplat
from nasplat.errors import SearchError
from nasplat.runs.folder import RunFolder
from nasplat.study.storage import open_storage

MARKUP = "<script>alert(1)</script>"


def test_markup_in_a_run_folder_stays_text(tmp_path: Path) -> None:
    def quality(architecture: nasplat.Architecture) -> float:
        return float(len(set(architecture.choices.values())))

    quality.__name__ = "<!--<script>"
    nasplat.search(
        nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1),
        maximize=[quality],
        n_trials=3,
        storage=str(tmp_path / "study.journal"),
    )
    about = {"verb": f"search{MARKUP}", "settings": {"space": MARKUP}, "command": MARKUP, "words": []}
    (tmp_path / "run.json").write_text(json.dumps(about))
    page = nasplat.write_report(tmp_path).read_text(encoding="utf-8")
    assert MARKUP not in page
    assert "<!--" not in page
    assert page.count("<script>") == 1  # the page's own
    assert "search&lt;script&gt;" in page


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    about = {"verb": "train", "settings": {"space": "made up"}, "command": "nasplat train", "words": []}
    (tmp_path / "run.json").write_text(json.dumps(about))
    page = nasplat.write_report(tmp_path).read_text(encoding="utf-8")
    assert "<link" not in page
    assert "src=" not in page
    assert "function chart(svg)" in page


HOSTILE = (
    "<script>alert(1)</script>",
    "<!--<script>",
    "</script><script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "' onmouseover='document.title=1' x='",
    "javascript:document.title='taken'",
    "</textarea></style></title><svg onload=document.title=1>",
    "{{ 7 * 7 }}{% raw %}",
    "line\u2028and\u2029paragraph\x00\x1b[31m",
    "half a character \ud83d",
    "& &lt; &amp;",
)


@pytest.fixture
def hostile(tmp_path: Path) -> RunFolder:
    """A run folder that says markup wherever it can say anything."""
    space = nasplat.load_space("nasbench201", width=4, cells=1, image=16, channels=1)
    folder = RunFolder(tmp_path)
    study = optuna.create_study(
        study_name="nasplat", storage=open_storage(str(folder.journal)), directions=["maximize", "minimize"]
    )
    study.set_metric_names(["".join(HOSTILE), "macs"])
    for i in range(4):
        member = space.sample(seed=i)
        graph = member.graph()
        about = {"architecture": member.to_json(), "key": graph.key, "macs": graph.macs, "params": graph.params}
        about |= {"guide": 1.0, "predicted": 1.0, "predicted_low": 0.0, "predicted_high": 2.0, "predicted_objective": 0}
        options = {"".join(HOSTILE) + str(i): optuna.distributions.CategoricalDistribution(HOSTILE)}
        study.add_trial(
            optuna.trial.create_trial(
                values=[float(i), graph.macs],
                params=dict.fromkeys(options, HOSTILE[i]),
                distributions=options,  # type: ignore[arg-type]
                user_attrs=about | {text: text for text in HOSTILE},
            )
        )
    for text in HOSTILE:
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"traceback": text}))
    row = {"verb": "search" + "".join(HOSTILE), "settings": {"space": "".join(HOSTILE), **{t: t for t in HOSTILE}}}
    row |= {"command": "".join(HOSTILE), "words": [], "versions": {t: t for t in HOSTILE}, "started": HOSTILE[0]}
    folder.description.write_text(json.dumps(row), encoding="utf-8")
    folder.front.parent.mkdir(exist_ok=True)
    return folder


def test_a_study_full_of_markup_is_a_page_of_text(hostile: RunFolder) -> None:
    page = nasplat.write_report(hostile.path).read_text(encoding="utf-8")
    body = page[page.index("<body>") :]
    islands = re.findall(r"<script type='application/json' id='[a-z-]+'>(.*?)</script>", page, re.DOTALL)
    assert len(islands) == 4
    for island in islands:
        assert not re.search("[<>&']", island)
        json.loads(island)
    assert page.count("<script>") == 1
    assert page.count("<style>") == 1
    assert "<img" not in body
    assert "<!--" not in page
    assert not re.search(r"<[a-z]+[^>]*\son[a-z]+=", page)
    assert not re.search(r"<[^>]*\sstyle=", page)  # the policy would not obey it
    assert "49" not in page[: page.index("</title>")]  # no template is rendered twice


def test_a_policy_lets_the_page_run_its_own_script_and_nothing_else(hostile: RunFolder) -> None:
    page = nasplat.write_report(hostile.path).read_text(encoding="utf-8")
    policy = re.search('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy[1].replace("&#39;", "'").split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy[1]
    for name, rule in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL)
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert page.index("Content-Security-Policy") < page.index("<title>")


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the chromium browser")
def test_a_browser_draws_the_charts_of_a_hostile_study_and_runs_nothing_of_it(
    hostile: RunFolder, tmp_path: Path
) -> None:
    page = nasplat.write_report(hostile.path).read_text(encoding="utf-8")
    # the policy holds even where something was not escaped
    worse = page.replace(
        "<h2>Replay</h2>", "<script>document.title='taken'</script><img src=x onerror=document.title=1>"
    )
    for name, text in (("report.html", page), ("worse.html", worse)):
        (tmp_path / name).write_text(text, encoding="utf-8")
        words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        words += [f"--user-data-dir={tmp_path / 'browser'}", "--enable-logging=stderr", "--dump-dom"]
        done = subprocess.run(
            [*words, (tmp_path / name).as_uri()], capture_output=True, text=True, timeout=120, check=False
        )
        title = re.search("<title>(.*?)</title>", done.stdout, re.DOTALL)
        assert title is not None
        assert title[1].startswith("nasplat: search")
        assert done.stdout.count("<circle") > 8
        assert ("Content Security Policy" in done.stderr) == (name == "worse.html")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "linked.png", "text.png", "missing.png", "", None])
def test_a_report_carries_no_file_but_the_pictures_of_its_run(name: str | None, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.pictures.mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"\x89PNG\r\n\x1a\nsecret")
    (folder.pictures / "text.png").write_text("secret", encoding="utf-8")
    (folder.pictures / "linked.png").symlink_to(tmp_path / "secret")
    folder.captions.write_text(
        json.dumps({"network": "x", "examples": [{"pictures": [{"file": name, "caption": ""}]}]})
    )
    about = {"verb": "train", "settings": {"space": "a"}, "command": "nasplat train", "words": []}
    folder.description.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(SearchError, match=r"pictures\.json"):
        nasplat.write_report(folder.path)
    assert not folder.report.exists()
