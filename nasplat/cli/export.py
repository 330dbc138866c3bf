"""The verb `export`: a network as an ONNX file that was compared with torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from nasplat.cli import options, show, words


@click.command("export")
@click.argument("network")
@click.argument("path", type=options.FILE)
@options.input_shape
@click.option("--check", is_flag=True, help="An existing file is compared with the network, and none is written.")
@click.option(
    "--batch",
    type=options.POSITIVE,
    default=None,
    help="The file takes this many examples.  [default: any number, where the network allows it]",
)
@click.option("--seed", default=0, show_default=True, help="This number decides the initial values of an architecture.")
@options.trust
@options.as_json
def export_command(network: str, path: Path, check: bool, as_json: bool, **o: Any) -> None:
    """Write a network as ONNX with a certificate, if ONNX Runtime agrees with torch; otherwise write nothing."""
    import torch

    import nasplat
    from nasplat.frontends import OnnxFile
    from nasplat.inputs import module_of, resolve
    from nasplat.probes.onnx_network import OnnxNetwork

    torch.manual_seed(o["seed"])
    found, shape = resolve(network), words.example(o["shape"])
    if check and isinstance(found, OnnxFile):
        module = OnnxNetwork(found.path)
        given = module.example if shape is None else shape
    else:
        module, given = module_of(found, shape)
    if check:
        error = nasplat.check_export(module, path, given)
        text = f"{path} agrees: largest relative error {error:.2e}"
        show.answer({"max_relative_error": error}, as_json, lambda: text)
        return
    made = nasplat.export(module, path, given, batch=o["batch"])
    size = "batches of any size" if made.batch is None else f"a batch of {made.batch}"
    text = (
        f"{path}: {made.size_bytes:,} bytes, takes {size}, largest relative error {made.max_relative_error:.2e}, "
        f"sha256 {made.sha256[:16]}…" + "".join(f"\n  {note}" for note in made.notes)
    )
    show.answer(dataclasses.asdict(made), as_json, lambda: text)
