"""Writes spaces.md and a drawing of each space.

python docs/make_spaces.py
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import numpy as np

import nasplat

HERE = Path(__file__).parent
DRAWS = 200
LABELS = {
    "darts": "NAS-Bench-301 surrogate, OnceNAS-Bench, NAS-Bench-Suite-Zero's nine tasks (column `genotype`)",
    "fbnet": "HELP latency (blocks joined by `|`)",
    "gpt": "HW-GPT-Bench (columns `embed`, `heads`, `mlp_ratio`, …), Archai's Litetransformersearch (`d_model`, `n_head`, `d_inner`, …), "
    "Gemstones (`width`, `depth`, `heads`, `kv_heads`)",
    "hybrid": "shipped: `hybrid_digits.csv.gz`",
    "inception": "shipped: `branch_digits.csv.gz`",
    "mnasnet": "Accel-NASBench (`e6_k3_l1_se0;…`)",
    "nasbench101": "NAS-Bench-101 (its own JSON, or `adj_upper` and `ops`), EC-NAS energy, zero-cost proxies",
    "nasbench201": "NAS-Bench-201 and NATS-Bench topology, HW-NAS-Bench, robustness, AnalogNAS-Bench, zero-cost proxies; shipped: "
    "`cell_digits.csv.gz`",
    "nasbench_graph": "NAS-Bench-Graph on nine data sets (columns `link` and `ops`)",
    "nasbench_macro": "NAS-Bench-Macro (eight digits)",
    "ofa_mobilenetv3": "Once-for-All accuracy and latency files (JSON with `ks`, `e`, `d`, `r`); shipped: `mobile_digits.csv.gz`",
    "pit": "Auto-Prox (JSON)",
    "transnas_micro": "TransNAS-Bench-101 micro, seven tasks (`64-41414-a_bc_def`)",
    "transnas_macro": "TransNAS-Bench-101 macro (`64-1234-basic`; no file was at hand to try)",
    "vit": "AutoFormer and Auto-Prox (JSON with `hidden_dim`, `depth`, `num_heads`, `mlp_ratio`); shipped: `transformer_digits.csv.gz`",
    "yolo": "YOLOBench (columns `base`, `depth_mul`, `width_mul`, `img_size`; names such as `yolo6l-d33w5@320`)",
}


def main() -> None:
    rows, sections = [], []
    for number, name in enumerate(nasplat.list_spaces(), start=1):
        print(f"{number} of {len(nasplat.list_spaces())}: {name}", file=sys.stderr, flush=True)
        row, section = describe(name)
        rows.append(row)
        sections.append(section)
    (HERE / "spaces.md").write_text(
        "\n".join(
            [
                "# Search spaces",
                "",
                "Written by `python docs/make_spaces.py`. Counts are of encodings; without ± they are exact. Parameters and MACs are the",
                f"5th and the 95th percentile of {DRAWS} architectures drawn uniformly (seeds 0–{DRAWS - 1}) at the default presets.",
                "Any space can be counted, drawn from within limits, labelled, searched and trained as a supernet; your own takes ten",
                "lines: [your_space.md](your_space.md). How labels are read: [tables.md](tables.md). With a task (`space.for_task(task)`;",
                "`search`, `train` and `label` on the command line) the presets that it decides need not be given.",
                "",
                "| space | encodings | parameters | MACs | literature encoding |",
                "|---|---|---|---|---|",
                *rows,
                "",
                *sections,
            ]
        ),
        encoding="utf-8",
    )


def describe(name: str) -> tuple[str, str]:
    """The row and the section of a space; writes its drawing."""
    space = nasplat.load_space(name)
    count = space.count()
    drawn = [space.sample(seed=i, uniform="architectures").graph() for i in range(DRAWS)]
    params, macs = (_range([getattr(g, q) for g in drawn]) for q in ("params", "macs"))
    size = f"{count.value:,}" if count.value < 1e7 and not count.error else f"{count.value:.4g}"
    size += f" ± {count.error:.1g}" if count.error else ""
    size += f" ({count.networks:,} networks)" if count.networks else ""
    encoded = bool({"parse", "parse_json"} & space.hooks.keys())
    member = space.sample(seed=0)
    nasplat.draw(member.graph(), HERE / "spaces" / f"{name}.svg")
    presets = [f"`{p.name}={p.default!r}`" for p in list(inspect.signature(space.function).parameters.values())[1:]]
    module = inspect.getmodule(space.function)
    about = " ".join(((module and inspect.getdoc(module)) or space.doc).split())
    text = space.format(member)
    row = f"| [{name}](#{name}) | {size} | {params} | {macs} | {'yes' if encoded else 'JSON of the choices'} |"
    return row, "\n".join(
        [
            f"## {name}",
            "",
            about,
            "",
            f"- Encodings: {size}",
            f"- Parameters {params}; MACs {macs}",
            f"- Presets: {', '.join(presets)}",
            f"- A task decides: {', '.join(f'`{p}`' for p in space.task_presets.values())}",
            f"- Labels: {LABELS.get(name, 'none known to be public')}",
            f"- Encoding: `{text[:160]}{'…' if len(text) > 160 else ''}`",
            "",
            f"![the architecture of seed 0](spaces/{name}.svg)",
            "",
        ]
    )


def _range(values: list[int]) -> str:
    low, high = np.quantile(values, [0.05, 0.95])
    unit, letter = next((u, x) for u, x in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")) if high >= u)
    return f"{low / unit:.3g} – {high / unit:.3g} {letter}".strip()


if __name__ == "__main__":
    main()
