"""Networks of other houses, for the coverage and speed of capture: one name, one factory of (module, example input).

timm's whole registry, torchvision, Hugging Face transformers from small configurations, torch-geometric, and hand-written
modules that make tracers stumble. Everything is created on the meta device: nothing is downloaded, no weights exist.
Needs the optional group: pip install timm torchvision transformers torch-geometric (torchvision without its dependencies where
no CPU build matches torch; the operator schemas it expects are declared below).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

Made = tuple[nn.Module, Any]

_TORCHVISION = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    "roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) -> (Tensor, Tensor)",
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, SymInt stride_w, "
    "SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) "
    "-> Tensor",
)
_library: Any = None


def declare_torchvision() -> None:
    """Declare torchvision's operators where its compiled half does not match torch, so that it can be imported."""
    global _library
    if _library is None:
        try:
            import torchvision
        except (RuntimeError, AttributeError):
            import sys

            for name in [n for n in sys.modules if n.startswith("torchvision")]:
                del sys.modules[name]
            _library = torch.library.Library("torchvision", "DEF")
            for schema in _TORCHVISION:
                _library.define(schema)
            import torchvision
            import torchvision.models.detection  # noqa: F401

            for module in [
                m for n, m in sys.modules.items() if n.startswith("torchvision") and hasattr(m, "_assert_has_ops")
            ]:
                module._assert_has_ops = lambda: None  # the operators are declared, never run


def families() -> dict[str, list[str]]:
    """Names of every family, those whose library is missing left out."""
    found = {"hand": sorted(HAND), "stereo": sorted(STEREO)}
    for family, listing in (
        ("timm", _timm_names),
        ("torchvision", _vision_names),
        ("transformers", _text_names),
        ("pyg", _pyg_names),
    ):
        try:
            found[family] = listing()
        except ImportError:
            continue
    return found


def make(family: str, name: str) -> Made:
    """A module on the meta device and an input that fits it."""
    if family == "hand":
        return HAND[name]()
    if family == "stereo":
        return STEREO[name]()
    return {"timm": _timm, "torchvision": _vision, "transformers": _text, "pyg": _pyg}[family](name)


# -- timm and torchvision ----------------------------------------------------------------------------------------------


def _timm_names() -> list[str]:
    declare_torchvision()
    import timm

    return timm.list_models()


def _timm(name: str, device: str = "meta") -> Made:
    declare_torchvision()
    import timm

    with torch.device(device):
        model = timm.create_model(name).eval()
    size = model.default_cfg.get("input_size", (3, 224, 224))
    if "naflexvit" in name:  # its image is a grid of any size; the class default asks for none
        size = (3, 224, 224)
    return model, (1, *size)


def _vision_names() -> list[str]:
    declare_torchvision()
    import torchvision

    return [n for n in torchvision.models.list_models() if not n.startswith("quantized_")]


def _vision(name: str) -> Made:
    declare_torchvision()
    import torchvision

    extra = (
        {"weights_backbone": None}
        if any(k in name for k in ("rcnn", "ssd", "retina", "fcos", "deeplab", "fcn", "lraspp"))
        else {}
    )
    try:
        with torch.device("meta"):
            model = torchvision.models.get_model(name, weights=None, **extra).eval()
    except NotImplementedError:  # its constructor computes with tensors
        model = torchvision.models.get_model(name, weights=None, **extra).eval().to("meta")
    if "raft" in name:
        return model, ((1, 3, 256, 256), (1, 3, 256, 256))
    if any(k in name for k in ("r3d", "mc3", "r2plus1d", "s3d", "mvit", "swin3d")):
        return model, (1, 3, 16, 224, 224)
    if any(k in name for k in ("rcnn", "ssd", "retina", "fcos")):
        return model, ([torch.empty(3, 320, 320, device="meta")],)
    return model, (1, 3, 299 if "inception" in name else 224, 299 if "inception" in name else 224)


# -- transformers ------------------------------------------------------------------------------------------------------

_SIZE = {
    "hidden_size": 64,
    "d_model": 64,
    "n_embd": 64,
    "dim": 64,
    "embed_dim": 64,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "num_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_decoder_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "d_ff": 128,
    "d_kv": 16,
    "hidden_dim": 128,
    "head_dim": 16,
    "vocab_size": 1000,
    "num_local_experts": 4,
    "num_experts": 4,
    "n_routed_experts": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_ENCODERS = (
    "bert roberta distilbert albert electra mpnet deberta deberta-v2 xlm-roberta camembert ernie esm fnet megatron-bert "
    "mobilebert nystromformer convbert squeezebert roformer rembert splinter layoutlm ibert modernbert big_bird longformer"
).split()
_DECODERS = (
    "gpt2 gpt_neo gpt_neox gptj opt bloom llama mistral qwen2 gemma gemma2 phi phi3 falcon mpt olmo stablelm cohere "
    "starcoder2 codegen biogpt xglm persimmon granite helium openai-gpt ctrl"
).split()
_EXPERTS = "mixtral qwen2_moe olmoe phimoe granitemoe".split()
_STATE = "mamba mamba2 falcon_mamba rwkv jamba recurrent_gemma".split()
_PAIRS = "t5 bart mbart pegasus marian blenderbot m2m_100 umt5 longt5 prophetnet led switch_transformers".split()
_IMAGES = (
    "vit deit beit dinov2 swin swinv2 convnext convnextv2 resnet regnet mobilenet_v1 mobilenet_v2 mobilevit levit poolformer segformer "
    "vit_mae vit_msn focalnet pvt_v2 efficientnet bit dpt data2vec-vision hiera cvt glpn ijepa"
).split()
_AUDIO = "wav2vec2 hubert wavlm unispeech unispeech-sat sew data2vec-audio audio-spectrogram-transformer whisper speech_to_text".split()
_BOTH = "clip siglip blip align flava groupvit vilt".split()


def _text_names() -> list[str]:
    import transformers  # noqa: F401

    return [*_ENCODERS, *_DECODERS, *_EXPERTS, *_STATE, *_PAIRS, *_IMAGES, *_AUDIO, *_BOTH]


def _shrink(config: Any, name: str) -> Any:
    for key, value in _SIZE.items():
        if isinstance(config.__dict__.get(key), int) or (key in getattr(config, "attribute_map", {}) and False):
            setattr(config, key, value)
    return config


def _text(name: str) -> Made:
    declare_torchvision()
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(name)
    if name not in {*_IMAGES, *_AUDIO, *_BOTH}:
        config = _shrink(config, name)
        for key, value in _ODD.get(name, {}).items():
            setattr(config, key, value)
    if name in {
        "vit",
        "deit",
        "beit",
        "dinov2",
        "vit_mae",
        "vit_msn",
        "data2vec-vision",
        "wav2vec2",
        "hubert",
        "wavlm",
        "unispeech",
        "unispeech-sat",
        "data2vec-audio",
        "audio-spectrogram-transformer",
        "ijepa",
    }:
        config.num_hidden_layers = 2
    with torch.device("meta"):
        model = AutoModel.from_config(config).eval()
    ids = torch.empty(1, 32, dtype=torch.long, device="meta")
    if name in _PAIRS:
        return model, {"input_ids": ids, "decoder_input_ids": ids[:, :8]}
    if name in _IMAGES:
        side = config.image_size if isinstance(getattr(config, "image_size", None), int) else 224
        return model, {"pixel_values": torch.empty(1, 3, side, side, device="meta")}
    if name in _AUDIO:
        if name == "whisper":
            return model, {"input_features": torch.empty(1, 80, 3000, device="meta"), "decoder_input_ids": ids[:, :8]}
        if name == "speech_to_text":
            return model, {"input_features": torch.empty(1, 100, 80, device="meta"), "decoder_input_ids": ids[:, :8]}
        if name == "audio-spectrogram-transformer":
            return model, {"input_values": torch.empty(1, 1024, 128, device="meta")}
        return model, {"input_values": torch.empty(1, 16000, device="meta")}
    if name in _BOTH:
        vision = getattr(config, "vision_config", config)
        side = getattr(vision, "image_size", 224)
        text = ids[:, :16]
        return model, {"input_ids": text, "pixel_values": torch.empty(1, 3, side, side, device="meta")}
    return model, {"input_ids": ids}


_ODD: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 32},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "olmoe": {"num_experts_per_tok": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "attention_layers": ["global", "local"]},
    "gptj": {"rotary_dim": 8},
    "codegen": {"rotary_dim": 8},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 2},
    "jamba": {"num_hidden_layers": 8},
    "recurrent_gemma": {"lru_width": 64, "num_hidden_layers": 3},
    "rwkv": {"attention_hidden_size": 64},
    "squeezebert": {"embedding_size": 64},
    "mobilebert": {"intra_bottleneck_size": 64, "embedding_size": 64, "true_hidden_size": 64},
    "rembert": {"input_embedding_size": 64},
    "prophetnet": {"num_encoder_layers": 2, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4},
    "longformer": {"attention_window": [16, 16]},
    "led": {"attention_window": 16},
    "big_bird": {"attention_type": "original_full"},
    "xglm": {"attention_heads": 4, "ffn_dim": 128},
    "opt": {"word_embed_proj_dim": 64, "ffn_dim": 128},
    "ctrl": {"dff": 128},
    "roformer": {"embedding_size": 64},
    "electra": {"embedding_size": 64},
}

# -- torch-geometric ---------------------------------------------------------------------------------------------------


def _pyg_names() -> list[str]:
    import torch_geometric  # noqa: F401

    convolutions = (
        "GCNConv ChebConv SAGEConv GraphConv GatedGraphConv ResGatedGraphConv GATConv GATv2Conv TransformerConv AGNNConv TAGConv "
        "GINConv ARMAConv SGConv APPNP MFConv EdgeConv FeaStConv HypergraphConv LEConv ClusterGCNConv GENConv FiLMConv SuperGATConv "
        "EGConv GeneralConv PNAConv LGConv SSGConv GCN2Conv"
    ).split()
    return [
        *(f"conv.{n}" for n in convolutions),
        *(f"model.{n}" for n in ("GCN", "GraphSAGE", "GIN", "GAT", "PNA", "EdgeCNN", "MLP")),
    ]


def _pyg(name: str) -> Made:
    import torch_geometric.nn as pyg

    kind, _, cls = name.partition(".")
    x = torch.empty(20, 16, device="meta")
    edges = torch.stack([torch.arange(60) % 20, (torch.arange(60) * 7 + 3) % 20])
    degree = torch.bincount(edges[1], minlength=20)
    pna = {"aggregators": ["mean", "max", "std"], "scalers": ["identity", "amplification"], "deg": degree}
    if kind == "model":
        if cls == "MLP":
            return pyg.MLP([16, 32, 8]), x
        return getattr(pyg, cls)(16, 32, 2, 8, **(pna if cls == "PNA" else {})), (x, edges)
    special: dict[str, Callable[[], nn.Module]] = {
        "ChebConv": lambda: pyg.ChebConv(16, 8, 3),
        "GatedGraphConv": lambda: pyg.GatedGraphConv(16, 2),
        "AGNNConv": lambda: pyg.AGNNConv(),
        "GINConv": lambda: pyg.GINConv(nn.Linear(16, 8)),
        "APPNP": lambda: pyg.APPNP(3, 0.1),
        "EdgeConv": lambda: pyg.EdgeConv(nn.Linear(32, 8)),
        "GeneralConv": lambda: pyg.GeneralConv(16, 8),
        "PNAConv": lambda: pyg.PNAConv(16, 8, **pna),
        "LGConv": lambda: pyg.LGConv(),
        "SSGConv": lambda: pyg.SSGConv(16, 8, alpha=0.1, K=2),
        "GCN2Conv": lambda: pyg.GCN2Conv(16, 0.1),
        "EGConv": lambda: pyg.EGConv(16, 8, num_heads=4),
    }
    module = special[cls]() if cls in special else getattr(pyg, cls)(16, 8)
    return module, (x, x, edges) if cls == "GCN2Conv" else (x, edges)


# -- written by hand ---------------------------------------------------------------------------------------------------


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


class _Hand(nn.Module):
    """A module whose forward is a function of (self, inputs)."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.run = forward

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.run(self, *inputs, **named)


def _gate(m: Any, x: Tensor) -> Tensor:
    return m.a(x) if x.mean() > 0 else m.b(x)


def _halting(m: Any, x: Tensor) -> Tensor:
    total = torch.zeros(x.shape[0], device=x.device)
    steps = 0
    while total.min() < 1 and steps < 5:
        x = torch.tanh(m.a(x))
        total = total + torch.sigmoid(m.h(x)).squeeze(-1)
        steps += 1
    return x


def _route(m: Any, x: Tensor) -> Tensor:
    scores = m.h(x).softmax(-1)
    weight, chosen = scores.topk(2, -1)
    y = torch.zeros_like(x)
    for number, expert in enumerate((m.a, m.b)):
        rows, slot = torch.where(chosen == number)
        y.index_add_(0, rows, expert(x[rows]) * weight[rows, slot, None])
    return y


def _in_place(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    y[:, ::2] *= 2
    y[:, 1::2].add_(1).relu_()
    y.view(y.shape[0], 2, -1)[:, 0].copy_(y.view(y.shape[0], 2, -1)[:, 1])
    return y


def _nested(m: Any, pair: Any, options: Any) -> Any:
    (a, b), scale = pair, options["scale"]
    return {"sum": m.a(a) + b * scale, "both": [(a, m.a(b)), None, 3]}


def _tied(m: Any, ids: Tensor) -> Tensor:
    return F.linear(torch.tanh(m.table(ids)), m.table.weight)


def _boxes(m: Any, x: Tensor) -> Any:
    scores = m.a(x).flatten(1)
    keep = scores > scores.mean()
    found = scores[keep]
    order = found.argsort(descending=True)[:10]
    return found[order], torch.nonzero(keep), torch.unique(order)


def _numpy(m: Any, x: Tensor) -> Tensor:
    steps = torch.arange(4).numpy().tolist()
    return m.a(x) * float(sum(steps)) + torch.from_numpy(__import__("numpy").ones(8, "float32")).to(x.device)


def _packed(m: Any, x: Tensor, lengths: Tensor) -> Any:
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    return nn.utils.rnn.pad_packed_sequence(m.a(packed)[0], batch_first=True)[0]


def _spectral(m: Any, x: Tensor) -> Tensor:
    return m.a(torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[-2:]))


def _on(make: Callable[[], Made]) -> Callable[[], Made]:
    def made() -> Made:
        with torch.device("meta"):
            return make()

    return made


def _ints(*shape: int) -> Tensor:
    return torch.empty(*shape, dtype=torch.long, device="meta")


HAND: dict[str, Callable[[], Made]] = {
    "branch on data": _on(lambda: (_Hand(_gate, a=nn.Linear(8, 8), b=nn.Linear(8, 8)), (2, 8))),
    "loop until halting": _on(lambda: (_Hand(_halting, a=nn.Linear(8, 8), h=nn.Linear(8, 1)), (2, 8))),
    "routed experts": _on(lambda: (_Hand(_route, a=nn.Linear(8, 8), b=nn.Linear(8, 8), h=nn.Linear(8, 4)), (6, 8))),
    "in place through views": _on(lambda: (_Hand(_in_place, a=nn.Linear(8, 8)), (2, 8))),
    "nested inputs and outputs": _on(
        lambda: (_Hand(_nested, a=nn.Linear(8, 8)), ((torch.empty(2, 8), torch.empty(2, 8)), {"scale": torch.empty(8)}))
    ),
    "tied embedding": _on(lambda: (_Hand(_tied, table=nn.Embedding(50, 16)), _ints(2, 7))),
    "boolean selection": _on(lambda: (_Hand(_boxes, a=nn.Conv2d(3, 4, 3)), (1, 3, 16, 16))),
    "numpy in between": _on(lambda: (_Hand(_numpy, a=nn.Linear(8, 8)), (2, 8))),
    "packed sequence": _on(
        lambda: (
            _Hand(_packed, a=nn.LSTM(8, 6, batch_first=True)),
            (torch.empty(3, 5, 8), torch.tensor([5, 4, 2], device="cpu")),
        )
    ),
    "fourier": _on(lambda: (_Hand(_spectral, a=nn.Conv2d(3, 4, 1)), (1, 3, 16, 16))),
    "custom autograd": _on(lambda: (_Hand(lambda m, x: _Sign.apply(m.a(x)), a=nn.Linear(8, 8)), (2, 8))),
    "checkpoint": _on(lambda: (_Hand(lambda m, x: checkpoint(m.a, x, use_reentrant=False), a=nn.Linear(8, 8)), (2, 8))),
    "functional": _on(
        lambda: (
            _Hand(
                lambda m, x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), m.a.weight, stride=2),
                a=nn.Conv2d(3, 4, 3),
            ),
            (1, 3, 16, 16),
        )
    ),
    "einsum": _on(lambda: (_Hand(lambda m, x: torch.einsum("bnd,bmd->bnm", m.a(x), x), a=nn.Linear(8, 8)), (2, 5, 8))),
    "unused parameters": _on(lambda: (_Hand(lambda m, x: m.a(x), a=nn.Linear(8, 8), b=nn.Linear(800, 8)), (2, 8))),
    "lstm": _on(lambda: (nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True), (2, 5, 8))),
    "gru": _on(lambda: (nn.GRU(8, 6, 2), (5, 2, 8))),
    "rnn": _on(lambda: (nn.RNN(8, 6), (5, 2, 8))),
    "lstm cell": _on(lambda: (nn.LSTMCell(8, 6), (2, 8))),
    "gru cell": _on(lambda: (nn.GRUCell(8, 6), (2, 8))),
    "encoder": _on(
        lambda: (nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2), (2, 5, 16))
    ),
    "transformer": _on(lambda: (nn.Transformer(16, 4, 2, 2, 32, batch_first=True), ((2, 5, 16), (2, 3, 16)))),
    "attention": _on(lambda: (_Hand(lambda m, x: m.a(x, x, x)[0], a=nn.MultiheadAttention(16, 4)), (5, 2, 16))),
    "embedding bag": _on(lambda: (nn.EmbeddingBag(50, 8), _ints(3, 4))),
    "bilinear": _on(lambda: (nn.Bilinear(8, 6, 4), ((2, 8), (2, 6)))),
    "transposed": _on(lambda: (nn.ConvTranspose2d(4, 6, 4, 2, 1, groups=2), (1, 4, 8, 8))),
    "grid sample": _on(
        lambda: (
            _Hand(lambda m, x, g: F.grid_sample(m.a(x), g, align_corners=False), a=nn.Conv2d(3, 4, 1)),
            ((1, 3, 8, 8), (1, 6, 6, 2)),
        )
    ),
    "pyramid": _on(
        lambda: (
            _Hand(
                lambda m, x: [F.interpolate(m.a(x), scale_factor=s, mode="bilinear") for s in (0.5, 1, 2)],
                a=nn.Conv2d(3, 4, 1),
            ),
            (1, 3, 8, 8),
        )
    ),
}


class _Volume(nn.Module):
    """A stereo net: shared features, a cost volume, 3-D convolutions, regression of the disparity."""

    def __init__(self, disparities: int, concatenated: bool, hourglass: bool) -> None:
        super().__init__()
        self.disparities, self.concatenated = disparities, concatenated
        self.features = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1))
        channels = 32 if concatenated else 1
        self.first = nn.Sequential(nn.Conv3d(channels, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU())
        self.down = nn.Conv3d(8, 16, 3, 2, 1) if hourglass else None
        self.up = nn.ConvTranspose3d(16, 8, 4, 2, 1) if hourglass else None
        self.last = nn.Conv3d(8, 1, 3, padding=1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.features(left), self.features(right)
        planes = []
        for d in range(self.disparities):
            shifted = F.pad(b, (d, 0, 0, 0))[..., : b.shape[-1]]
            planes.append(torch.cat([a, shifted], 1) if self.concatenated else (a * shifted).mean(1, keepdim=True))
        y = self.first(torch.stack(planes, 2))
        if self.down is not None and self.up is not None:
            y = y + self.up(torch.relu(self.down(y)))
        scores = F.interpolate(self.last(y), scale_factor=4, mode="trilinear", align_corners=False).squeeze(1)
        places = torch.arange(scores.shape[1], device=scores.device, dtype=scores.dtype)
        return (scores.softmax(1) * places[None, :, None, None]).sum(1)


STEREO: dict[str, Callable[[], Made]] = {
    f"{kind}{' hourglass' if deep else ''} {size}": _on(
        lambda kind=kind, deep=deep, size=size: (
            _Volume(8, kind == "concatenation", deep),
            ((1, 3, size, 2 * size),) * 2,
        )
    )
    for kind in ("correlation", "concatenation")
    for deep in (False, True)
    for size in (64, 128)
}
