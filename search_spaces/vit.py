"""AutoFormer's vision transformers: embedding and depth for the network, heads and MLP ratio for each block.

Source: Chen et al., ICCV 2021, arXiv:2107.00651 (sizes tiny, small, base). Image side, patch and channels are presets,
so small images use the same file. Differences: a learned absolute position table instead of relative position tables on
keys and values (the value-side table forces slow attention), separate q, k, v projections, global mean pooling as in
the paper. The published subnets T, S and B (which need ratios=[3, 3.5, 4]) have 5.768, 22.791 and 53.583 M parameters
here; with the missing tables, 7,680 a block and one class token, these are the published 5.87, 22.89 and 53.69 M.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from nasplat import Option, Pick, SpaceError, space
from nasplat.blocks import PositionTable, TransformerBlock, divisible

SIZES = {
    "tiny": {"embeds": (192, 216, 240), "depths": (12, 13, 14), "heads": (3, 4), "ratios": (3.5, 4.0)},
    "small": {"embeds": (320, 384, 448), "depths": (12, 13, 14), "heads": (5, 6, 7), "ratios": (3.0, 3.5, 4.0)},
    "base": {"embeds": (528, 576, 624), "depths": (14, 15, 16), "heads": (9, 10), "ratios": (3.0, 3.5, 4.0)},
    "mini": {"embeds": (16, 32, 48, 64), "depths": (1, 2, 3, 4), "heads": (1, 2, 4), "ratios": (0.5, 1.0, 2.0)},
}


class VisionTransformer(nn.Module):
    """Patches, positions, blocks, norm, mean over tokens, linear."""

    def __init__(
        self,
        embed: int,
        blocks: Sequence[tuple[int, int]],
        image: int,
        patch: int,
        channels: int,
        classes: int,
        head_dim: int,
    ) -> None:
        """Build one block for each pair of (heads, MLP width)."""
        super().__init__()
        self.patches = nn.Conv2d(channels, embed, patch, patch)
        self.positions = PositionTable((image // patch) ** 2, embed)
        self.blocks = nn.Sequential()
        for i, (heads, hidden) in enumerate(blocks):
            self.blocks.add_module(f"block{i}", TransformerBlock(embed, heads, hidden, head_dim))
        self.norm = nn.LayerNorm(embed)
        self.head = nn.Linear(embed, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, channels, H, W) to class scores (B, classes)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(self.positions(tokens))).mean(1))


def example_input(image: int = 224, channels: int = 3, **presets: object) -> tuple[int, ...]:
    """Give the shape of one image."""
    return (1, channels, image, image)


@space(example_input=example_input)
def vit(
    pick: Pick,
    size: str = "tiny",
    image: int = 224,
    patch: int = 16,
    channels: int = 3,
    classes: int = 1000,
    head_dim: int = 64,
    ratios: Sequence[float] | None = None,
) -> nn.Module:
    """Build AutoFormer's transformer with picked embedding, depth, heads and MLP ratios.

    Args:
        pick: Function that returns one option of each named choice; nasplat passes it in.
        size: Set of options by AutoFormer's names 'tiny', 'small' and 'base'; 'mini' is ours, for small images.
        image: Side of the square input images in pixels; a multiple of the patch.
        patch: Side of a patch in pixels; the published 16.
        channels: Channels of the input images; 3 for colour.
        classes: Number of classes that the head tells apart; the default is ImageNet's.
        head_dim: Channels of an attention head; the published 64.
        ratios: Options for the MLP's width over the embedding, in the place of the size's own; None keeps those.

    Returns:
        A network from images (B, channels, image, image) to class scores (B, classes).

    Raises:
        SpaceError: the image is not a multiple of the patch, so that its margin would not be seen.
    """
    if image % patch:
        raise SpaceError(f"image expected a multiple of patch={patch}, got {image}.\n  Set another patch.")
    options = SIZES[size] if ratios is None else SIZES[size] | {"ratios": tuple(ratios)}
    embed = pick("embed", options["embeds"])
    depth = pick("depth", options["depths"])
    blocks = []
    for i in range(depth):
        heads = pick(f"block{i}.heads", options["heads"])
        ratio = pick(f"block{i}.ratio", options["ratios"])
        blocks.append((heads, divisible(embed * ratio, 4)))
    return VisionTransformer(embed, blocks, image, patch, channels, classes, head_dim)


@vit.json_parser
def parse(text: str, **presets: object) -> dict[str, Option] | None:
    """Read `{"hidden_dim": 192, "depth": 12, "num_heads": […], "mlp_ratio": […]}`.

    AutoFormer's and Auto-Prox's files hold it.
    """
    data = json.loads(text)
    if "hidden_dim" not in data:
        return None
    found: dict[str, Option] = {"embed": data["hidden_dim"], "depth": data["depth"]}
    for i in range(data["depth"]):
        found |= {f"block{i}.heads": data["num_heads"][i], f"block{i}.ratio": data["mlp_ratio"][i]}
    return found


@vit.formatter
def format_json(choices: Mapping[str, Option]) -> str:
    """Write AutoFormer's encoding."""
    blocks = range(int(choices["depth"]))
    data = {"hidden_dim": choices["embed"], "depth": choices["depth"]}
    return json.dumps(
        data
        | {
            "num_heads": [choices[f"block{i}.heads"] for i in blocks],
            "mlp_ratio": [choices[f"block{i}.ratio"] for i in blocks],
        }
    )
