"""The verbs `spaces` and `sample`: search spaces and architectures of them."""

from __future__ import annotations

from typing import Any

import click

from nasplat.cli import options, show, words
from nasplat.tables.listing import Listing


@click.command("spaces")
@options.as_json
def spaces_command(as_json: bool) -> None:
    """List the search spaces, variants included, with their sizes."""
    from nasplat.searchspace import list_spaces, list_variants, load_space

    rows = []
    for name in (n for main in list_spaces() for n in (main, *list_variants(main))):
        space = load_space(name)
        count = space.count()
        row = {"space": name, "encodings": count.value, "error": count.error, "networks": count.networks}
        rows.append(row | {"about": space.doc.split("\n\n")[0]})

    def listing() -> Listing:
        cells = []
        for r in rows:
            size = f"{r['encodings']:.4g}" + (f" ± {r['error']:.1g}" if r["error"] else "")
            cells.append([r["space"], size, r["about"].splitlines()[0]])
        return Listing(["space", "encodings", "about"], cells)

    show.answer(rows, as_json, listing)


@click.command("sample")
@click.argument("space")
@click.option("-n", "n", default=1, show_default=True, help="This many architectures are drawn.")
@click.option(
    "--seed", default=0, show_default=True, help="This number decides the first draw; each further draw adds one to it."
)
@click.option(
    "--uniform",
    type=click.Choice(["choices", "architectures"]),
    default="choices",
    show_default=True,
    help="Each option of a choice is equally likely, or each architecture.",
)
@options.limits
@options.presets
@options.as_json
def sample_command(space: str, n: int, seed: int, uniform: Any, as_json: bool, **o: Any) -> None:
    """Draw architectures of a space (a name, or a path to your own file), within limits if there are any."""
    from nasplat.searchspace import load_space

    loaded, limits = load_space(space, **words.pairs(o["preset"])), words.numbers(o["limit"])
    if limits:
        feasible = loaded.feasible(limits)
        show.say(f"{feasible.method}, prepared in {feasible.setup_seconds:.1f} s", err=True)
    for i in range(n):
        architecture = loaded.sample(seed=seed + i, uniform=uniform, limits=limits)
        show.say(architecture.to_json() if as_json or loaded.presets else str(architecture))
