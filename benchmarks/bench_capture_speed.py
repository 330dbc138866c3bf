"""Seconds per network beside torch's own tracers, on the same networks in the same process, one thread.

Ours as it is by default and with its program at once (what `rebuild` needs); `torch.export` (strict=False), `torch.fx` symbolic tracing with shape
propagation, `torch.jit.trace`. All on meta tensors but jit.trace, which needs values. Every tracer runs once, our tables
emptied before, after one network to warm up; creation is not counted. A tracer that raises, or takes more than 60 seconds, has not covered the network.
One row per (network, tracer) is appended; those present are skipped.

    python benchmarks/bench_capture_speed.py
    python benchmarks/bench_capture_speed.py --summary
"""

from __future__ import annotations

import argparse
import csv
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import zoo
from torch import Tensor, fx
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils._pytree import tree_map_only

import nasplat
from nasplat.frontends import outcomes
from nasplat.frontends.examples import as_example
from nasplat.runs.folder import hardware, versions

OUT = Path(__file__).parent / "results" / "capture_speed.csv"
COLUMNS = ("family", "network", "tracer", "seconds", "error")
LIMIT = 60
SMALL = 120_000_000
"""Parameters up to which a network gets values for jit.trace."""
TIMM = 28  # every so-manieth name of the registry: 49 networks
TEXT = "bert distilbert gpt2 llama mixtral mamba t5 bart vit swin convnext segformer wav2vec2 clip".split()
OTHERS = {
    "pyg": ("model.GraphSAGE", "conv.GATConv"),
    "hand": ("lstm", "branch on data", "transformer"),
    "stereo": ("concatenation hourglass 64",),
}
VISION = ("resnet50", "fcos_resnet50_fpn", "deeplabv3_resnet50", "r3d_18", "swin_t")


def networks() -> list[tuple[str, str]]:
    """The sample, the same in every run."""
    listed = zoo.families()
    found = [("timm", n) for n in listed.get("timm", [])[::TIMM]]
    found += [("transformers", n) for n in TEXT if n in listed.get("transformers", [])]
    found += [("torchvision", n) for n in VISION if n in listed.get("torchvision", [])]
    return [*found, *((family, n) for family, names in OTHERS.items() if family in listed for n in names)]


def _given(example: Any, values: bool) -> Any:
    generator = torch.Generator().manual_seed(0)

    def value(t: Tensor) -> Tensor:
        if not values or t.device.type != "meta":
            return t if values or not t.is_floating_point() else t.to("meta")
        return torch.rand(t.shape, generator=generator) if t.is_floating_point() else torch.ones(t.shape, dtype=t.dtype)

    return tree_map_only(Tensor, value, as_example(example))


def _export(module: Any, example: Any) -> Any:
    given = _given(example, False)
    return torch.export.export(
        module, () if isinstance(given, dict) else given, given if isinstance(given, dict) else None, strict=False
    )


def _fx(module: Any, example: Any) -> Any:
    given = _given(example, False)
    traced = fx.symbolic_trace(module, concrete_args=None)
    return ShapeProp(traced).propagate(*(given.values() if isinstance(given, dict) else given))


def _jit(module: Any, example: Any) -> Any:
    given = _given(example, True)
    if isinstance(given, dict):
        return torch.jit.trace(module, example_kwarg_inputs=given, strict=False, check_trace=False)
    return torch.jit.trace(module, given, strict=False, check_trace=False)


TRACERS: dict[str, Callable[[Any, Any], Any]] = {
    "nasplat": lambda m, e: nasplat.capture(m, e),
    "nasplat with program": lambda m, e: nasplat.capture(m, e, program=True),
    "torch.export": _export,
    "torch.fx with shapes": _fx,
    "torch.jit.trace": _jit,
}


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"longer than {LIMIT} s")


def timed(tracer: str, family: str, name: str) -> tuple[float, str]:
    """(seconds, error)."""
    module, example = zoo.make(family, name)
    module.eval()
    if tracer == "torch.jit.trace":
        if sum(p.numel() for p in module.parameters()) > SMALL:
            return 0.0, "not tried: too large to be given values"
        module = module.to_empty(device="cpu")
        for t in [*module.parameters(), *module.buffers()]:
            t.data = torch.zeros_like(t)
    outcomes.NODES.clear()  # what the last tracer learnt about operators
    outcomes.LAYOUTS.clear()
    signal.alarm(LIMIT)
    start = time.perf_counter()
    try:
        with torch.no_grad():
            TRACERS[tracer](module, example)
        return time.perf_counter() - start, ""
    except Exception as err:  # tracers raise what they like
        return time.perf_counter() - start, f"{type(err).__name__}: {(str(err).splitlines() or [''])[0]}"[:200]
    finally:
        signal.alarm(0)


def rows() -> list[dict[str, str]]:
    if not OUT.exists():
        return []
    with OUT.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def summary() -> str:
    found = rows()
    times = {(r["tracer"], r["family"], r["network"]): float(r["seconds"]) for r in found if not r["error"]}
    names = dict.fromkeys((r["family"], r["network"]) for r in found)
    lines = ["| tracer | covers | median s | 95 % s | median of (its time / nasplat's) |", "|---|---|---|---|---|"]
    for tracer in TRACERS:
        tried = [r for r in found if r["tracer"] == tracer and not r["error"].startswith("not tried")]
        good = sorted(t for (who, *_), t in times.items() if who == tracer)
        ratios = [
            times[tracer, *n] / times["nasplat", *n]
            for n in names
            if (tracer, *n) in times and ("nasplat", *n) in times
        ]
        if good:
            lines.append(
                f"| {tracer} | {len(good)} of {len(tried)} | {median(good):.3f} | {good[int(0.95 * (len(good) - 1))]:.3f} | {median(ratios):.1f} |"
            )
    failed = [f"{r['network']}: {r['error']}" for r in found if r["error"] and r["tracer"].startswith("nasplat")]
    return "\n".join([*lines, "", f"{len(names)} networks.", *failed])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    OUT.parent.mkdir(exist_ok=True)
    if not OUT.exists():
        OUT.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    if not arguments.summary:
        signal.signal(signal.SIGALRM, _too_long)
        done = {(r["family"], r["network"], r["tracer"]) for r in rows()}
        for tracer in TRACERS:
            timed(tracer, "stereo", "correlation 64")  # imports and first-call tables
        for family, name in networks():
            for tracer in TRACERS:
                if (family, name, tracer) in done:
                    continue
                seconds, error = timed(tracer, family, name)
                with OUT.open("a", encoding="utf-8", newline="") as file:
                    csv.writer(file, lineterminator="\n").writerow((family, name, tracer, round(seconds, 4), error))
            print(family, name, flush=True)
    print(f"\n{hardware()}, {versions()}\n\n{summary()}")


if __name__ == "__main__":
    main()
