"""A checkpoint says which space its weights belong to, and is refused by a space whose networks have become others."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path

from nasplat.errors import NasplatError, SpaceWarning, SupernetError
from nasplat.searchspace import Space

SPACE, FINGERPRINT, WITNESSES = "space", "space_fingerprint", "witnesses"
"""Metadata of a checkpoint: name and presets of the space, its fingerprint, and the keys of some of its networks."""
SEEN = 4
"""Networks whose graphs tell later whether an edited space still means the same."""


def belonging_to(space: Space) -> dict[str, str]:
    """Describe the space of a supernet for its checkpoint.

    Args:
        space: Space of the supernet.

    Returns:
        Texts by name, for the metadata.
    """

    def seen() -> str:
        found = []
        for seed in range(SEEN):
            with suppress(NasplatError):  # a network that is trained, and cannot be captured
                member = space.sample(seed=seed)
                found.append([member.choices, member.graph().key])
        return json.dumps(found)

    return {
        SPACE: space.reference,
        FINGERPRINT: space.fingerprint,
        WITNESSES: space.remembered("witnesses of a checkpoint", seen),
    }


def check_belongs(metadata: dict[str, str], space: Space, file: Path) -> None:
    """Check that a checkpoint's weights belong to a space; the same code under another path is the same space.

    Args:
        metadata: First part of what `read_checkpoint` returned.
        space: Space of the supernet that takes the weights.
        file: Path of the checkpoint, for errors.

    Raises:
        SupernetError: the checkpoint is of another space, or the space was edited and some network has become another.
    """
    before = metadata.get(FINGERPRINT)
    if before == space.fingerprint:
        return
    if metadata.get(SPACE) != space.reference:
        raise SupernetError(
            f"checkpoint {str(file)!r} expected space {space.reference!r}, got {metadata.get(SPACE)!r}.\n"
            "  Load that space, or choose another folder."
        )
    if before is None:  # an older nasplat wrote it
        return
    try:
        witnesses = [(dict(choices), str(key)) for choices, key in json.loads(metadata.get(WITNESSES, "[]"))]
    except (ValueError, TypeError, RecursionError) as err:
        raise SupernetError(
            f"expected networks and their keys in checkpoint {str(file)!r}, got something else.\n  Restore the file."
        ) from err
    for choices, key in witnesses:
        try:
            is_same = space.architecture(choices).graph().key == key
        except NasplatError:
            is_same = False
        if not is_same:
            raise SupernetError(
                f"checkpoint {str(file)!r} belongs to other code of space {space.name!r} (hash "
                f"{before.partition('.')[0]}, now {space.fingerprint.partition('.')[0]}): its network of {choices} has "
                "become another one.\n  Choose another folder, or bring back the code of that time."
            )
    warnings.warn(
        f"the code of space {space.name!r} has changed since checkpoint {str(file)!r} was written. {len(witnesses)} "
        "networks are the same computations, so it is taken up; what graphs do not show, such as dropout, was not "
        "compared.",
        SpaceWarning,
        stacklevel=3,
    )
