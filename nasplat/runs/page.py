"""A run folder becomes report.html: one file that needs nothing else, with what was searched, found and checked.

Charts are drawn by the page itself from data embedded in it: hover for a network, wheel to zoom, drag to move, double click to
reset. Points beyond `SHOWN` per chart are thinned by Pareto rank, so that large studies open at once.
"""

from __future__ import annotations

import json
import os
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.preprocessing import OrdinalEncoder

from nasplat.errors import SearchError
from nasplat.graph.drawing import draw, draw_diff
from nasplat.runs.delivered import files_section, pictures_section, predictors_section
from nasplat.runs.supernet_curves import training_section
from nasplat.searchspace import Architecture
from nasplat.study.ledger import STOPPED
from nasplat.study.stages import PLAN
from nasplat.study.storage import open_storage
from nasplat.tables.metrics import kendall_tau

SHOWN = 4000
"""Trials a chart holds at most."""
WHISKERS = 1000
"""Of those with an interval."""
LEARNABLE, LEARNT = 24, 2000
"""Trials from which the importance of choices is learnt: at least, at most."""
SHOWN_CHOICES = 16
COMPARED = 7
"""Networks of the front that are compared with their neighbours."""
PAIRED = 14
"""Boxes of each of two networks side by side, which must fit the width of the page."""
ABSENT = "(not asked)"
"""Stands for a choice that a network has not."""


def write_report(folder: str | Path) -> Path:
    """Write report.html into a run folder.

    Args:
        folder: Of a search, a demo or the training of a supernet.

    Returns:
        Path of the page.

    Raises:
        SearchError: the folder holds no run with a study.
    """
    folder = Path(folder)
    about = _json(folder / "run.json")
    if about is None:
        raise SearchError(
            f"expected a run folder with run.json, got {str(folder)!r}.\n  Give the --out of a search or a demo."
        )
    if about.get("verb") == "train":
        return _written(
            folder,
            _page(
                about,
                [
                    _embedded("tips", {}),
                    training_section(folder),
                    _certificate(_json(folder / "best.certificate.json")),
                    pictures_section(folder),
                    _replay(about, folder),
                ],
            ),
        )
    storage = about["settings"].get("storage") or str(folder / "study.journal")
    if storage.endswith(".journal") and not Path(storage).exists():
        raise SearchError(
            f"run folder {str(folder)!r} holds no study yet ({storage} is missing).\n  Run its command first."
        )
    study = optuna.load_study(study_name="nasplat", storage=open_storage(storage))
    return _written(
        folder, render(study, about, _json(folder / "chosen.json"), _json(folder / "best.certificate.json"), folder)
    )


def _written(folder: Path, page: str) -> Path:
    partial = folder / "report.html.partial"
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, folder / "report.html")
    return folder / "report.html"


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def render(study: optuna.Study, about: dict[str, Any], chosen: Any, certificate: Any, folder: Path) -> str:
    """The page as text.

    Args:
        study: Of the run.
        about: What run.json holds.
        chosen: What chosen.json holds, or None: the best first objective stands in.
        certificate: Of the exported file, or None.
        folder: Named in the replay command.
    """
    trials = study.get_trials(deepcopy=False)
    done = [t for t in trials if t.state == TrialState.COMPLETE and "architecture" in t.user_attrs]
    names = study.metric_names or [f"objective {i}" for i in range(len(study.directions))]
    front = {t.number for t in (study.best_trials if len(study.directions) > 1 else _best(study, done))}
    picture, title = "<p>No network was chosen yet.</p>", ""
    line = (
        chosen["architecture"] if chosen else max(done, key=_first(study)).user_attrs["architecture"] if done else None
    )
    if line is not None:
        architecture = Architecture.from_json(line)
        graph = architecture.graph()
        picture, title = draw(graph), f"{architecture}: {graph.macs:,} MACs, {graph.params:,} parameters"
    failed = [t for t in trials if t.state == TrialState.FAIL]
    pruned = [t for t in trials if t.state == TrialState.PRUNED]
    stopped = sum(STOPPED in t.user_attrs for t in pruned)
    charts = [_pareto(study, done, front, names), _history(study, done, names)]
    agreement = _agreement(study, done, names)
    told = {p[3] for chart in (*charts, *([agreement] if agreement else [])) for p in chart[0]["points"]}
    sections = [
        f"<p>{len(done)} networks evaluated, {len(front)} in the Pareto set, {len(failed)} failed, {stopped} stopped in training, "
        f"{len(pruned) - stopped} refused before they cost anything. Hover for a network; wheel zooms, drag moves, double click resets.</p>",
        _stages(study),
        predictors_section(folder),
        _embedded("tips", {t.number: _tip(t, names) for t in done if t.number in told}),
        _chart("Pareto set", "pareto", *charts[0]),
        _chart("History", "history", *charts[1]),
        _chart("Predicted against measured", "agreement", *agreement) if agreement else "",
        _importance(done, names),
        f"<h2>Chosen network</h2><p><code>{escape(title)}</code></p><div class='drawing'>{picture}</div>",
        pictures_section(folder),
        _front_table(study, done, front, names),
        files_section(folder),
        _comparison(study, done, front, names),
        _certificate(certificate),
        training_section(folder),
        _failures(failed),
        _replay(about, folder),
    ]
    return _page(about, sections)


def _page(about: dict[str, Any], sections: list[str]) -> str:
    head = f"{about['verb']} of {escape(str(about['settings'].get('space', '')))}"
    body = "\n".join(s for s in sections if s)
    return (
        _PAGE.replace("@TITLE@", head).replace("@BODY@", body).replace("@STYLE@", _STYLE).replace("@SCRIPT@", _SCRIPT)
    )


def _stages(study: optuna.Study) -> str:
    """Of a search in stages: who was asked how many networks, and why."""
    if PLAN not in study.user_attrs:
        return ""
    kept = json.loads(study.user_attrs[PLAN])
    plan, names = kept[PLAN], kept["stages"]
    cells = zip(names, plan["agreement"], plan["costs"], plan["counts"], kept["shares"], strict=True)
    rows = "".join(
        f"<tr><td class='left'>{escape(name)}</td><td>{f'{tau:.2f}' if tau or cost else 'no answers'}</td><td>{cost:.3g}</td>"
        f"<td>{count or 'left out'}</td><td>{share:.0%}</td></tr>"
        for name, tau, cost, count, share in cells
    )
    head = "".join(f"<th>{c}</th>" for c in ("agreement τ-b", "cost of one", "networks planned", "share of the rest"))
    return (
        f"<h2>Stages</h2><p>A pilot of {plan['pilots']} random networks was evaluated by every stage; its rank agreement with the last "
        f"stage, and what an evaluation costs, divided the rest of the budget of {kept['budget']:,.4g}. Charts below show the last "
        f"stage.</p><table><tr><th class='left'>stage</th>{head}</tr>{rows}</table>"
    )


def _first(study: optuna.Study) -> Any:
    sign = 1.0 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else -1.0
    return lambda t: sign * t.values[0]


def _best(study: optuna.Study, done: list[FrozenTrial]) -> list[FrozenTrial]:
    return [max(done, key=_first(study))] if done else []


def _thin(done: list[FrozenTrial], front: set[int], most: int = SHOWN) -> list[FrozenTrial]:
    """At most so many of them, evenly along the history, the front among them."""
    if len(done) <= most:
        return done
    step = len(done) // max(1, most - len(front)) + 1
    return [t for i, t in enumerate(done) if t.number in front or i % step == 0]


def _tip(trial: FrozenTrial, names: list[str]) -> str:
    values = "; ".join(f"{n} {_number(v)}" for n, v in zip(names, trial.values, strict=True))
    return (
        f"trial {trial.number}: {values}\n{trial.user_attrs['params']:,} parameters\n{trial.user_attrs['architecture']}"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.5g}"


def _pareto(
    study: optuna.Study, done: list[FrozenTrial], front: set[int], names: list[str]
) -> tuple[dict[str, Any], str]:
    if len(names) > 1:
        x, label = (lambda t: t.values[1]), names[1]
    else:
        x, label = (lambda t: t.user_attrs["macs"]), "macs"
    rows = [[x(t), t.values[0], int(t.number in front), t.number] for t in _thin(done, front)]
    return {
        "x": label,
        "y": names[0],
        "points": rows,
        "joined": 1,
    }, "Filled: the Pareto set. Hollow: the other networks."


def _history(study: optuna.Study, done: list[FrozenTrial], names: list[str]) -> tuple[dict[str, Any], str]:
    better = max if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else min
    best: float | None = None
    rows = []
    for t in done:
        improved = best is None or (better(best, t.values[0]) != best)
        best = t.values[0] if best is None else better(best, t.values[0])
        rows.append((t, improved))
    keep = {t.number for t, improved in rows if improved}
    shown = {t.number for t in _thin(done, keep)}
    points = [[t.number, t.values[0], int(improved), t.number] for t, improved in rows if t.number in shown]
    return {"x": "trial", "y": names[0], "points": points, "joined": 2}, "Filled: better than everything before."


def _agreement(study: optuna.Study, done: list[FrozenTrial], names: list[str]) -> tuple[dict[str, Any], str] | None:
    known = [t for t in done if "predicted_high" in t.user_attrs]
    if len(known) < 3:
        return None
    about = [t.user_attrs for t in known]
    objective = int(about[0]["predicted_objective"])
    predicted, measured = [a["predicted"] for a in about], [t.values[objective] for t in known]
    macs = kendall_tau([a["macs"] for a in about], measured)
    rows = [
        [
            t.user_attrs["predicted"],
            t.values[objective],
            0,
            t.number,
            *(t.user_attrs[f"predicted_{end}"] for end in ("low", "high")),
        ]
        for t in _thin(known, set(), WHISKERS)
    ]
    inside = sum(a["predicted_low"] <= m <= a["predicted_high"] for a, m in zip(about, measured, strict=True))
    guided = [t for t in done if t.user_attrs.get("guide") is not None]
    tau = (
        kendall_tau([t.user_attrs["guide"] for t in guided], [t.values[objective] for t in guided])
        if len(guided) > 2
        else None
    )
    text = (
        f"What the sampler's model expected before the trial, with an interval of two standard deviations, against what was measured: "
        f"rank agreement τ-b {kendall_tau(predicted, measured):.2f} on {len(known)} networks; MACs alone {macs:.2f}. "
        + (f"The guide's answers: {tau:.2f} on {len(guided)}. " if tau is not None else "")
        + f"{inside} lie inside their interval; on the dashed line they would be equal. The sampler chose these networks, so good ones are "
        "over-represented."
    )
    return {"x": "predicted", "y": names[objective], "points": rows, "joined": 0, "equal": 1}, text


def _importance(done: list[FrozenTrial], names: list[str]) -> str:
    """Which choices matter: how much worse a forest predicts unseen networks when one choice is shuffled among them."""
    if len(done) < LEARNABLE:
        return ""
    some = _thin(done, set(), LEARNT)
    choices = sorted({name for t in some for name in t.params})
    x = np.array([[t.params.get(name, ABSENT) for name in choices] for t in some], dtype=object).astype(str)
    codes = OrdinalEncoder().fit_transform(x)
    order = np.random.default_rng(0).permutation(len(some))
    learnt, unseen = order[: len(order) // 2], order[len(order) // 2 :]
    shares, explained = [], []
    for column in range(len(names)):
        y = np.array([t.values[column] for t in some])
        forest = RandomForestRegressor(100, min_samples_leaf=2, max_features=0.5, random_state=0).fit(
            codes[learnt], y[learnt]
        )
        explained.append(float(forest.score(codes[unseen], y[unseen])) if np.ptp(y[unseen]) else 0.0)
        found: Any = permutation_importance(forest, codes[unseen], y[unseen], n_repeats=5, random_state=0)
        shares.append(np.maximum(found.importances_mean, 0.0))
    ranked = np.argsort(-(np.array(shares) / np.maximum(1e-9, np.max(shares, axis=1, keepdims=True))).max(0))[
        :SHOWN_CHOICES
    ]
    head = "".join(f"<th class='left'>{escape(n)}</th>" for n in names)

    def cell(share: float, most: float) -> str:
        width = 100 * share / most if most > 0 else 0.0
        return f"<td class='left'><span class='bar' style='width:{width:.0f}px'></span> {share:.2f}</td>"

    rows = "".join(
        f"<tr><td class='left'><code>{escape(choices[i])}</code></td>"
        + "".join(cell(float(column[i]), float(column.max())) for column in shares)
        + "</tr>"
        for i in ranked
    )
    fit = "; ".join(f"{escape(n)} {max(0.0, e):.2f}" for n, e in zip(names, explained, strict=True))
    return (
        f"<h2>Importance of choices</h2><p>By how much R² on unseen networks falls when one choice is shuffled among them; a forest on "
        f"{len(learnt)} networks, judged on {len(unseen)} others. R² with all choices: {fit}. Where it is near zero, the bars say "
        f"nothing.</p><table><tr><th class='left'>choice</th>{head}</tr>{rows}</table>"
    )


def _comparison(study: optuna.Study, done: list[FrozenTrial], front: set[int], names: list[str]) -> str:
    """Neighbours along the front: which choices differ, what that costs and brings, and where in the network it is."""
    members = sorted((t for t in done if t.number in front), key=_first(study), reverse=True)
    if len(members) < 2:
        return ""
    if len(members) > COMPARED:
        members = [members[round(at)] for at in np.linspace(0, len(members) - 1, COMPARED)]
    items = []
    for better, other in pairwise(members):
        changed = [
            f"<tr><td class='left'><code>{escape(name)}</code></td><td class='left'>{escape(str(better.params.get(name, '–')))}</td>"
            f"<td class='left'>{escape(str(other.params.get(name, '–')))}</td></tr>"
            for name in sorted(better.params.keys() | other.params.keys())
            if better.params.get(name, ABSENT) != other.params.get(name, ABSENT)
        ]
        gains = "; ".join(
            f"{n} {_number(a)} → {_number(b)}" for n, a, b in zip(names, better.values, other.values, strict=True)
        )
        first, second = (Architecture.from_json(t.user_attrs["architecture"]).graph() for t in (better, other))
        items.append(
            f"<details><summary>trial {better.number} → trial {other.number}: {escape(gains)}</summary><table><tr><th class='left'>"
            f"choice</th><th class='left'>trial {better.number}</th><th class='left'>trial {other.number}</th></tr>{''.join(changed)}"
            f"</table><div class='drawing pair'>{draw_diff(first, second, boxes=PAIRED)}</div></details>"
        )
    return f"<h2>Neighbours in the Pareto set</h2><p>What differs from one network to the next, drawn side by side.</p>{''.join(items)}"


def _chart(title: str, name: str, data: dict[str, Any], text: str) -> str:
    picture = f"<svg class='chart' id='{name}' viewBox='0 0 860 380'></svg>"
    return f"<h2>{escape(title)}</h2><p>{escape(text)}</p>{picture}{_embedded(f'{name}-data', data)}"


def _embedded(name: str, data: Any) -> str:
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    return f"<script type='application/json' id='{name}'>{text}</script>"


def _front_table(study: optuna.Study, done: list[FrozenTrial], front: set[int], names: list[str]) -> str:
    members = sorted((t for t in done if t.number in front), key=_first(study), reverse=True)[:200]
    counts = [n for n in ("macs", "params") if n not in names]
    head = "".join(f"<th>{escape(n)}</th>" for n in (*names, *counts))
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{_number(v)}</td>" for v in t.values)
        + "".join(f"<td>{t.user_attrs[n]:,}</td>" for n in counts)
        + f"<td class='left'><code>{escape(_choices(t))}</code></td></tr>"
        for t in members
    )
    return f"<h2>Networks of the Pareto set</h2><table><tr>{head}<th class='left'>choices</th></tr>{rows}</table>"


def _choices(trial: FrozenTrial) -> str:
    architecture = Architecture.from_json(trial.user_attrs["architecture"])
    return architecture.space.format(architecture)


def _certificate(certificate: Any) -> str:
    if certificate is None:
        return ""
    rows = "".join(
        f"<tr><th class='left'>{escape(k)}</th><td class='left'>{escape(json.dumps(v) if isinstance(v, dict) else str(v))}</td></tr>"
        for k, v in certificate.items()
        if k != "checks"
    )
    return (
        f"<h2>Exported file</h2><p>ONNX Runtime and torch were compared on {len(certificate['checks'])} inputs; the file was written "
        f"because they agree.</p><table>{rows}</table>"
    )


def _failures(failed: list[FrozenTrial]) -> str:
    rows = [(t.number, t.user_attrs.get("traceback") or t.user_attrs.get("reason") or "interrupted") for t in failed]
    if not rows:
        return ""
    items = "".join(
        f"<details><summary>trial {n}: {escape(r.strip().splitlines()[-1][:160])}</summary><pre>{escape(r)}</pre></details>"
        for n, r in rows[:100]
    )
    return f"<h2>Failed candidates</h2>{items}"


def _replay(about: dict[str, Any], folder: Path) -> str:
    rows = "".join(
        f"<tr><th class='left'>{escape(k)}</th><td class='left'>{escape(json.dumps(about[k]))}</td></tr>"
        for k in ("settings", "versions", "hardware", "started")
        if k in about
    )
    return (
        f"<h2>Replay</h2><p>Again, into a folder of its own, compared with this run:</p><pre>nasplat replay {escape(folder.name)}</pre>"
        f"<p>The command was</p><pre>{escape(about['command'])}</pre><table>{rows}</table>"
    )


_STYLE = """
:root{color-scheme:light}body{font:15px/1.5 system-ui,sans-serif;color:#1f272e;max-width:900px;margin:24px auto;padding:0 16px}
h1{font-size:24px;overflow-wrap:anywhere}h2{font-size:18px;margin-top:36px;border-top:1px solid #dfe4e8;padding-top:14px}
p{color:#46505a}code,pre{font:12px/1.45 ui-monospace,monospace;overflow-wrap:anywhere}pre{background:#f4f6f8;padding:10px;white-space:pre-wrap}
table{border-collapse:collapse;font-size:13px;width:100%}td,th{border-bottom:1px solid #e6eaee;padding:4px 8px;text-align:right;vertical-align:top}
.pair svg{max-width:100%;height:auto}.bar{display:inline-block;height:9px;background:#2563a8;border-radius:2px}details{margin:6px 0}summary{cursor:pointer;font-size:13px}
.left{text-align:left;overflow-wrap:anywhere}.chart{width:100%;border:1px solid #dfe4e8;border-radius:8px;touch-action:none;cursor:grab}
.drawing{overflow:auto;max-height:820px;border:1px solid #dfe4e8;border-radius:8px}
.pictures{display:grid;grid-template-columns:1fr 1fr;gap:8px;margin:12px 0}figure{margin:0}figcaption{font-size:12px;color:#46505a}
.pictures img{width:100%;image-rendering:pixelated;border-radius:6px}
#hover{position:fixed;display:none;background:#1f272e;color:#fff;font:12px/1.4 ui-monospace,monospace;padding:6px 9px;border-radius:6px;
max-width:420px;white-space:pre-wrap;overflow-wrap:anywhere;pointer-events:none;z-index:9}
"""

_SCRIPT = """
const TIPS=JSON.parse(document.getElementById('tips').textContent),tip=document.getElementById('hover'),NS='http://www.w3.org/2000/svg';
function el(parent,name,attributes,text){const e=document.createElementNS(NS,name);for(const k in attributes)e.setAttribute(k,attributes[k]);
 if(text!==undefined)e.textContent=text;parent.appendChild(e);return e}
function short(v){const a=Math.abs(v);if(a>=1e9)return +(v/1e9).toPrecision(3)+'G';if(a>=1e6)return +(v/1e6).toPrecision(3)+'M';
 if(a>=1e4)return +(v/1e3).toPrecision(3)+'k';return ''+ +v.toPrecision(4)}
function ticks(a,b){const raw=(b-a)/6,p=Math.pow(10,Math.floor(Math.log10(raw))),s=[1,2,5,10].map(m=>m*p).find(v=>v>=raw)||10*p,out=[];
 for(let v=Math.ceil(a/s)*s;v<=b+s*1e-9;v+=s)out.push(v);return out}
function chart(svg){const data=JSON.parse(document.getElementById(svg.id+'-data').textContent),P=data.points;if(!P.length)return;
 const L=76,R=846,T=14,B=332,xs=P.flatMap(p=>p.length>5?[p[0],p[4],p[5]]:[p[0]]),ys=P.map(p=>p[1]);
 function span(v){let a=v.reduce((m,x)=>Math.min(m,x),Infinity),b=v.reduce((m,x)=>Math.max(m,x),-Infinity);const d=(b-a)||Math.abs(a)||1;return[a-d*.05,b+d*.05]}
 const start=[...span(xs),...span(ys)];let [x0,x1,y0,y1]=start;
 const X=v=>L+(v-x0)/(x1-x0)*(R-L),Y=v=>B-(v-y0)/(y1-y0)*(B-T);
 function paint(){svg.replaceChildren();const clip=el(svg,'clipPath',{id:svg.id+'-clip'});el(clip,'rect',{x:L,y:T,width:R-L,height:B-T});
  for(const v of ticks(x0,x1)){el(svg,'line',{x1:X(v),x2:X(v),y1:T,y2:B,stroke:'#eef1f4'});el(svg,'text',{x:X(v),y:B+18,'text-anchor':'middle','font-size':11,fill:'#46505a'},short(v))}
  for(const v of ticks(y0,y1)){el(svg,'line',{x1:L,x2:R,y1:Y(v),y2:Y(v),stroke:'#eef1f4'});el(svg,'text',{x:L-8,y:Y(v)+4,'text-anchor':'end','font-size':11,fill:'#46505a'},short(v))}
  el(svg,'text',{x:(L+R)/2,y:B+40,'text-anchor':'middle','font-size':12,fill:'#1f272e'},data.x);
  el(svg,'text',{x:16,y:(T+B)/2,'text-anchor':'middle','font-size':12,fill:'#1f272e',transform:'rotate(-90 16 '+(T+B)/2+')'},data.y);
  const g=el(svg,'g',{'clip-path':'url(#'+svg.id+'-clip)'});
  const chosen=P.filter(p=>p[2]).sort((a,b)=>a[0]-b[0]);
  if(data.joined&&chosen.length>1){let d='M'+X(chosen[0][0])+' '+Y(chosen[0][1]);for(const p of chosen.slice(1))d+=' H'+X(p[0])+' V'+Y(p[1]);
   if(data.joined==2)d+=' H'+R;el(g,'path',{d:d,fill:'none',stroke:'#2563a8','stroke-width':1.5})}
  if(data.equal){const a=Math.max(x0,y0),b=Math.min(x1,y1);if(b>a)el(g,'line',{x1:X(a),y1:Y(a),x2:X(b),y2:Y(b),stroke:'#7b8791','stroke-dasharray':'5 4'})}
  for(const p of P)if(p.length>5)el(g,'line',{x1:X(p[4]),x2:X(p[5]),y1:Y(p[1]),y2:Y(p[1]),stroke:'#9db9d6','stroke-width':1});
  for(const p of [...P].sort((a,b)=>a[2]-b[2])){const c=el(g,'circle',{cx:X(p[0]),cy:Y(p[1]),r:p[2]?5:4,fill:p[2]?'#2563a8':'#ffffff','fill-opacity':p[2]?1:.6,stroke:p[2]?'#153d68':'#7b8791'});
   c.addEventListener('mouseenter',e=>{tip.textContent=TIPS[p[3]]+(p.length>5?'\\nexpected '+short(p[4])+' to '+short(p[5]):'');tip.style.display='block'});
   c.addEventListener('mousemove',e=>{tip.style.left=Math.min(e.clientX+14,innerWidth-440)+'px';tip.style.top=(e.clientY+14)+'px'});
   c.addEventListener('mouseleave',()=>tip.style.display='none')}}
 function at(e){const r=svg.getBoundingClientRect();return[(e.clientX-r.left)/r.width*860,(e.clientY-r.top)/r.height*380]}
 svg.addEventListener('wheel',e=>{e.preventDefault();const[px,py]=at(e),k=e.deltaY<0?.8:1.25,fx=x0+(px-L)/(R-L)*(x1-x0),fy=y0+(B-py)/(B-T)*(y1-y0);
  x0=fx-(fx-x0)*k;x1=fx+(x1-fx)*k;y0=fy-(fy-y0)*k;y1=fy+(y1-fy)*k;paint()},{passive:false});
 let grip=null;svg.addEventListener('pointerdown',e=>grip=[at(e),[x0,x1,y0,y1]]);addEventListener('pointerup',()=>grip=null);
 svg.addEventListener('pointermove',e=>{if(!grip)return;const[px,py]=at(e),dx=(px-grip[0][0])/(R-L),dy=(py-grip[0][1])/(B-T),[a,b,c,d]=grip[1];
  x0=a-dx*(b-a);x1=b-dx*(b-a);y0=c+dy*(d-c);y1=d+dy*(d-c);paint()});
 svg.addEventListener('dblclick',()=>{[x0,x1,y0,y1]=start;paint()});paint()}
document.querySelectorAll('svg.chart').forEach(chart);
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>nasplat: @TITLE@</title><style>@STYLE@</style></head>
<body><h1>@TITLE@</h1>
@BODY@
<div id="hover"></div><script>@SCRIPT@</script></body></html>
"""
