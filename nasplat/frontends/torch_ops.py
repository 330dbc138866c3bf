"""ATen calls become names and attributes of the vocabulary; whichever rung recorded them, the same computation reads the same.

Attributes keep the schema's argument names, without tensors, without defaults, axes counted from the front.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from nasplat.graph.columns import Attributes

Arguments = Mapping[str, Any]

TRANSPARENT = frozenset(
    {"alias", "detach", "lift_fresh", "lift", "lift_fresh_copy", "requires_grad", "resolve_conj", "resolve_neg"}
)
"""No node, not even a silent one."""

CASTS = frozenset({"to", "_to_copy", "type_as", "contiguous", "clone"})
"""A node only where they change the type or copy."""

NOTHING = frozenset(
    {"_assert_async", "_assert_scalar", "_assert_tensor_metadata", "record_stream", "_functional_assert_async"}
)
"""Checks of their own; no computation."""

RANDOM = frozenset(
    "rand randn randint rand_like randn_like randint_like randperm bernoulli multinomial normal uniform exponential random "
    "poisson cauchy geometric log_normal binomial native_dropout".split()
)


_TABLE = """
=             relu relu6 silu gelu sigmoid tanh mish glu hardswish hardsigmoid neg abs mean sum cumsum
elu           elu selu celu
softplus      softplus log_sigmoid log_sigmoid_forward
softmax       softmax _softmax log_softmax _log_softmax _safe_softmax softmin
add           add _fused_add
sub           sub rsub subtract
mul           mul multiply
div           div divide true_divide floor_divide
pow           pow square float_power
exp           exp exp2 expm1
log           log log2 log10 log1p
sqrt          sqrt rsqrt
clamp         clamp hardtanh clamp_min clamp_max clip threshold
where         where masked_fill masked_fill_scalar
pad           pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
pad           replication_pad3d _pad_circular
max           max amax amin min maximum minimum fmax fmin
argmax        argmax argmin
gather        gather index index_select take_along_dim take _unsafe_index _unsafe_masked_index
leakyrelu     leaky_relu prelu _prelu_kernel rrelu rrelu_with_noise
compare       eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not isnan isinf
compare       isfinite isin isclose greater less greater_equal less_equal not_equal isneginf isposinf signbit __and__ __or__
compare       __xor__ __iand__ __ior__ __ixor__
unary         sin cos tan asin acos atan sinh cosh asinh acosh atanh erf erfc erfinv floor ceil round trunc frac sign sgn
unary         reciprocal lgamma digamma nan_to_num tril triu logit i0 special_i0 sinc softshrink hardshrink angle conj _conj
unary         _conj_physical conj_physical fill cummax cummin deg2rad positive fake_quantize_per_tensor_affine
unary         fake_quantize_per_channel_affine quantize_per_tensor dequantize logical_shift
binary        atan2 remainder fmod copysign hypot logaddexp logaddexp2 lerp addcmul addcdiv bitwise_xor bitwise_left_shift
binary        bitwise_right_shift __lshift__ __rshift__ xlogy complex polar nextafter floor_remainder mse_loss heaviside
binary        bitwise_and_scalar ldexp gcd lcm _weight_norm _weight_norm_interface
reduce        prod any all var std var_mean std_mean norm linalg_vector_norm linalg_norm logsumexp median nanmedian mode
reduce        count_nonzero nansum aminmax histc bincount quantile _unique_count dist
batchnorm     batch_norm native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm _batch_norm_no_update
batchnorm     _native_batch_norm_legit _batch_norm_impl_index
layernorm     layer_norm native_layer_norm
groupnorm     group_norm native_group_norm
instancenorm  instance_norm
rmsnorm       rms_norm _fused_rms_norm
maxpool       max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
avgpool       avg_pool1d avg_pool2d avg_pool3d
adaptivepool  adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
adaptivepool  adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d
matmul        matmul mm bmm addmm baddbmm addbmm mv addmv dot vdot inner outer ger addr linalg_multi_dot chain_matmul
matmul        _sparse_mm _int_mm _grouped_mm _scaled_mm
attention     scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math
attention     _scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention
attention     _scaled_dot_product_fused_attention_overrideable _scaled_dot_product_attention_math_for_mps
distance      _cdist_forward cdist _euclidean_dist pdist _pdist_forward
bilinear      _trilinear
embedding     embedding embedding_bag _embedding_bag _embedding_bag_forward_only embedding_renorm
concat        cat concat stack concatenate hstack vstack dstack cartesian_prod block_diag
resize        upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
resize        upsample_bicubic2d upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d
resize        _upsample_nearest_exact3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
gridsample    grid_sampler grid_sampler_2d grid_sampler_3d affine_grid_generator
pixelshuffle  pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle
shift         roll flip rot90 fliplr flipud
scatter       scatter scatter_add scatter_reduce index_add index_put _index_put_impl _unsafe_index_put index_copy index_fill
scatter       index_reduce masked_scatter put slice_scatter select_scatter diagonal_scatter segment_reduce as_strided_scatter
scatter       _unsafe_masked_index_put_accumulate
sort          sort topk argsort kthvalue msort searchsorted bucketize
select        nonzero masked_select _unique2 _unique unique_dim unique_consecutive nms repeat_interleave nonzero_static
select        nonzero_numpy
patches       im2col col2im
unpool        max_unpool2d max_unpool3d
roi           roi_align roi_pool ps_roi_align ps_roi_pool
deform        deform_conv2d
fft           fft_fft fft_ifft fft_fft2 fft_ifft2 fft_rfft fft_irfft fft_rfft2 fft_irfft2 fft_fftn fft_ifftn fft_rfftn
fft           fft_irfftn _fft_r2c _fft_c2r _fft_c2c stft istft fft_hfft fft_ihfft
algebra       linalg_inv linalg_inv_ex inverse linalg_solve _linalg_solve_ex linalg_cholesky linalg_cholesky_ex cholesky
algebra       linalg_qr _linalg_svd linalg_svd linalg_eigh _linalg_eigh linalg_eig linalg_det _linalg_det slogdet
algebra       _linalg_slogdet linalg_matrix_exp matrix_exp linalg_lu_factor_ex linalg_lu_solve triangular_solve
algebra       linalg_solve_triangular cholesky_solve linalg_pinv pinverse linalg_lstsq logdet
copy          copy view_as_complex_copy view_as_real_copy
zeros         zeros zeros_like new_zeros zero
constant      ones ones_like new_ones full full_like new_full arange linspace eye scalar_tensor one_hot tril_indices
constant      triu_indices hann_window hamming_window meshgrid
identity      dropout feature_dropout alpha_dropout feature_alpha_dropout rename_
view          view reshape _unsafe_view _reshape_alias flatten unflatten squeeze unsqueeze view_as view_as_real
view          view_as_complex as_strided reshape_as ravel real imag view_copy squeeze_copy unsqueeze_copy atleast_1d
view          atleast_2d atleast_3d
permute       permute transpose movedim t numpy_T swapaxes swapdims adjoint mT mH moveaxis swapaxes_ permute_copy
slice         slice select narrow split split_with_sizes tensor_split chunk unbind unfold diagonal hsplit vsplit unsafe_split
slice         unsafe_chunk unsafe_split_with_sizes diag diag_embed trace split_copy slice_copy select_copy
expand        expand expand_as repeat tile broadcast_to broadcast_tensors expand_copy
recurrent     lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell mkldnn_rnn_layer quantized_lstm
"""
"""Vocabulary name, then the ATen names it stands for; `=` keeps the name."""

_NAMES: dict[str, str] = dict.fromkeys(RANDOM, "random") | {
    name: name if op == "=" else op for op, *names in map(str.split, _TABLE.strip().splitlines()) for name in names
}

_PLAIN = frozenset(
    "relu relu6 elu silu gelu sigmoid tanh softplus softmax mish glu hardswish hardsigmoid add sub mul div pow neg exp log sqrt abs clamp where "
    "mean sum max argmax cumsum gather square pad pixel_shuffle leaky_relu hardtanh _softmax multiply divide true_divide hardtanh masked_fill constant_pad_nd "
    "clip clamp_min clamp_max index cat concat amax dropout copy".split()
)
"""Names that need no `function` attribute: the op says it."""
_DIMS = frozenset({"dim", "dims", "axis", "dim0", "dim1", "start_dim", "end_dim"})
_DROPPED = frozenset(
    "dtype device layout pin_memory memory_format generator non_blocking copy implicit half_to_float antialias_ out train training".split()
)


def normalise(
    name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Callable[[Any], bool]
) -> tuple[str, Attributes]:
    """Vocabulary name and attributes of one call.

    Args:
        name: ATen name without overload and without the in-place underscore, such as `conv2d`.
        arguments: By the schema's names, those equal to their default left out; tensors among them may be meta.
        outputs: Output tensors.
        is_weight: True for tensors that are parameters (or transposed views of them).

    Returns:
        (op, attributes); ops we do not know are `other:<name>`.
    """
    if name.startswith(
        ("conv", "_convolution", "slow_conv", "thnn_conv", "mkldnn_convolution", "_slow_conv", "_conv_depthwise")
    ):
        if name in {"conv2d", "conv1d", "conv3d"} or isinstance(arguments.get("weight"), Tensor):
            return _convolution(name, arguments)
    if name == "linear":
        weight = arguments["weight"]
        if is_weight(weight) or not is_weight(arguments["input"]):
            return "linear", _pack(in_features=weight.shape[-1], bias=int(arguments.get("bias") is not None))
        return "matmul", _pack(inner=weight.shape[-1])
    op = _NAMES.get(name, f"other:{name}")
    if op == "clamp" and _bounds(arguments) == (0.0, 6.0):
        return "relu6", ()
    special = _SPECIAL.get(op)
    if special is not None:
        return special(name, arguments, outputs, is_weight)
    return op, _rest(name, arguments)


def _rest(name: str, arguments: Arguments, **more: object) -> Attributes:
    """Every argument that is no tensor, axes counted from the front."""
    found: dict[str, object] = dict(more)
    data = next((v for v in arguments.values() if isinstance(v, Tensor)), None)
    rank = data.dim() if data is not None else 0
    for key, value in arguments.items():
        plain = _plain(value)
        if plain is None or key in _DROPPED:
            continue
        if key in _DIMS and rank:
            plain = tuple(_front(v, rank) for v in plain) if isinstance(plain, tuple) else _front(plain, rank)
            if isinstance(plain, tuple) and _NAMES.get(name) in {"mean", "sum", "reduce", "max"}:
                plain = tuple(sorted(plain, key=int))  # type: ignore[arg-type]
        if (
            key in {"other", "exponent", "value", "min", "max"}
            and isinstance(plain, int)
            and not isinstance(plain, bool)
        ):
            plain = float(plain)
        found[key if key not in found else f"{key}_"] = plain
    if name not in _PLAIN:
        found["function"] = name
    return _pack(**found)


def _front(axis: object, rank: int) -> object:
    return axis + rank if isinstance(axis, int) and axis < 0 else axis


def _pack(**values: object) -> Attributes:
    return tuple(sorted(values.items()))


def _plain(value: Any) -> Any:
    """A JSON-able stand-in for a non-tensor argument; None for tensors and what cannot be kept."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(v, bool | int | float) for v in value):
        return tuple(value)
    if isinstance(value, complex):
        return (value.real, value.imag)
    return None


def _tuple(value: Any, n: int) -> tuple[int, ...]:
    if isinstance(value, str):
        return (-1,) * n  # "same"
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * n if len(values) == 1 else values


def _bounds(arguments: Arguments) -> tuple[Any, Any]:
    low, high = arguments.get("min", arguments.get("min_val")), arguments.get("max", arguments.get("max_val"))
    return (float(low), float(high)) if isinstance(low, int | float) and isinstance(high, int | float) else (None, None)


def _convolution(name: str, arguments: Arguments) -> tuple[str, Attributes]:
    data, weight = arguments["input"], arguments["weight"]
    n = weight.dim() - 2
    transposed = "transpose" in name or bool(arguments.get("transposed"))
    groups = int(arguments.get("groups", 1))
    values: dict[str, object] = {
        "kernel": tuple(weight.shape[2:]),
        "stride": _tuple(arguments.get("stride", 1), n),
        "padding": _tuple(arguments.get("padding", 0), n),
        "dilation": _tuple(arguments.get("dilation", 1), n),
        "groups": groups,
        "channels_per_group": weight.shape[1],
        "bias": int(arguments.get("bias") is not None),
    }
    if transposed:
        values["transposed"] = 1
    channels = data.shape[-n - 1]
    return ("depthwise" if groups == channels and groups > 1 else "conv"), _pack(**values)


def _pool(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    n = int(name.split("pool")[1][0])
    kernel = _tuple(arguments["kernel_size"], n)
    stride = arguments.get("stride") or kernel
    values: dict[str, object] = {
        "kernel": kernel,
        "stride": _tuple(stride, n),
        "padding": _tuple(arguments.get("padding", 0), n),
    }
    values |= {k: int(arguments[k]) for k in ("ceil_mode", "count_include_pad") if k in arguments}
    if any(v != 1 for v in _tuple(arguments.get("dilation", 1), n)):
        values["dilation"] = _tuple(arguments["dilation"], n)
    return ("maxpool" if "max" in name else "avgpool"), _pack(**values)


def _adaptive(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    return "adaptivepool", (("function", "max"),) if "max" in name else ()  # the output shape says the rest


def _matmul(
    name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Callable[[Any], bool]
) -> tuple[str, Attributes]:
    tensors = [v for v in arguments.values() if isinstance(v, Tensor)]
    if name in {"linalg_multi_dot", "chain_matmul"} or len(tensors) < 2:
        return "matmul", ()
    left, right = (tensors[1], tensors[2]) if name.startswith(("add", "baddbmm")) and len(tensors) > 2 else tensors[:2]
    if is_weight(right) and right.dim() == 2 and not is_weight(left):
        bias = name == "addmm" and is_weight(tensors[0])
        return "linear", _pack(in_features=right.shape[0], bias=int(bias))
    inner = 1 if name in {"outer", "ger", "addr"} else left.shape[-1] if left.dim() else 1
    return "matmul", _pack(inner=inner, **({"function": "grouped"} if name == "_grouped_mm" else {}))


def _attention(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    query, key = arguments["query"], arguments["key"]
    causal = int(bool(arguments.get("is_causal", False)))
    return "attention", _pack(causal=causal, keys=key.shape[-2], width=query.shape[-1])


def _recurrent(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    tensors = [v for v in arguments.values() if isinstance(v, Tensor)]
    weights = [
        w
        for v in arguments.values()
        if isinstance(v, list | tuple)
        for w in v
        if isinstance(w, Tensor) and w.dim() == 2
    ]
    if name.endswith("_cell"):
        weights = [v for k, v in arguments.items() if k.startswith("w_") and isinstance(v, Tensor)]
    weights = [w for w in weights if is_weight(w)] or weights
    return "recurrent", _pack(function=name, macs=prod(tensors[0].shape[:-1]) * sum(w.numel() for w in weights))


def _fourier(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    data = next(v for v in arguments.values() if isinstance(v, Tensor))
    whole = max((data, *outputs), key=lambda t: t.numel())
    dims = arguments.get(
        "dim", (-2, -1) if name.endswith("2") else (-1,) if name.endswith("ft") else tuple(range(whole.dim()))
    )
    dims = (dims,) if isinstance(dims, int) else dims
    points = prod(whole.shape[d] for d in dims if -whole.dim() <= d < whole.dim())
    real = not data.is_complex() or not all(o.is_complex() for o in outputs)
    return "fft", _rest(name, arguments, points=points, real=int(real))


def _algebra(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    data = next(v for v in arguments.values() if isinstance(v, Tensor))
    return "algebra", _rest(name, arguments, n=data.shape[-1] if data.dim() else 1)


def _deform(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    weight = arguments["weight"]
    a = {k: int(v) for k, v in arguments.items() if isinstance(v, bool | int)}
    return "deform", _pack(
        kernel=tuple(weight.shape[2:]),
        stride=(a.get("stride_h", 1), a.get("stride_w", 1)),
        padding=(a.get("pad_h", 0), a.get("pad_w", 0)),
        dilation=(a.get("dilation_h", 1), a.get("dilation_w", 1)),
        groups=a.get("groups", 1),
        channels_per_group=weight.shape[1],
        bias=int(arguments.get("bias") is not None),
        modulated=int(a.get("use_mask", 0)),
    )


def _resize(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    mode = name.removeprefix("_").removeprefix("upsample_").rstrip("123da_").removesuffix("_exact")
    return "resize", _pack(
        mode=mode, align_corners=int(bool(arguments.get("align_corners", False))), exact=int("exact" in name)
    )


def _grid(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    modes = ("bilinear", "nearest", "bicubic")
    values = {k: v for k, v in arguments.items() if isinstance(v, bool | int)}
    return "gridsample", _pack(
        mode=modes[int(values.get("interpolation_mode", 0))],
        padding_mode=int(values.get("padding_mode", 0)),
        align_corners=int(values.get("align_corners", 0)),
        function=name.split("_")[0],
    )


def _clamp(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    if name == "threshold":
        return "clamp", _rest(name, arguments)
    defaults = (-1.0, 1.0) if name == "hardtanh" else (None, None)
    found = {}
    for key, default in zip(("min", "max"), defaults, strict=True):
        value = arguments.get(key, arguments.get(f"{key}_val", default))
        if isinstance(value, int | float):
            found[key] = float(value)
    return "clamp", _pack(**found)


def _distance(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    data = next(v for v in arguments.values() if isinstance(v, Tensor))
    return "distance", _rest(name, arguments, inner=data.shape[-1])


def _bilinear(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    weight = next((v for v in arguments.values() if isinstance(v, Tensor) and is_weight(v)), None)
    tensors = [v for v in arguments.values() if isinstance(v, Tensor)]
    weight = weight if weight is not None else tensors[1]
    return "bilinear", _pack(inner=weight.shape[-1] * weight.shape[-2])


def _softmax(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    rank = outputs[0].dim() if outputs else 0
    kept: dict[str, object] = {"dim": _front(arguments.get("dim", -1), rank)}
    if "log" in name:
        kept["function"] = "log_softmax"
    return "softmax", _pack(**kept)


def _named(*keys: str) -> Callable[..., tuple[str, Attributes]]:
    """Only these arguments matter."""

    def special(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
        return _NAMES[name], tuple(
            sorted((k, _plain(arguments[k])) for k in keys if _plain(arguments.get(k)) is not None)
        )

    return special


def _layernorm(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    return _NAMES[name], _pack(axes=len(arguments["normalized_shape"])) if "normalized_shape" in arguments else ()


def _groupnorm(name: str, arguments: Arguments, outputs: Sequence[Tensor], is_weight: Any) -> tuple[str, Attributes]:
    return "groupnorm", _pack(groups=int(arguments.get("num_groups", arguments.get("group", 1))))


_SPECIAL: dict[str, Callable[..., tuple[str, Attributes]]] = {
    "maxpool": _pool,
    "avgpool": _pool,
    "adaptivepool": _adaptive,
    "batchnorm": _named(),
    "layernorm": _layernorm,
    "rmsnorm": _layernorm,
    "groupnorm": _groupnorm,
    "instancenorm": _named(),
    "matmul": _matmul,
    "attention": _attention,
    "recurrent": _recurrent,
    "softmax": _softmax,
    "fft": _fourier,
    "algebra": _algebra,
    "deform": _deform,
    "resize": _resize,
    "gridsample": _grid,
    "distance": _distance,
    "bilinear": _bilinear,
    "embedding": lambda name, arguments, outputs, is_weight: (
        "embedding",
        (("function", "bag"),) if "bag" in name else (),
    ),
    "zeros": _named(),
    "view": _named(),
    "copy": _named(),
    "identity": _named(),
    "random": _named(),
    "expand": _named(),
    "clamp": _clamp,
}


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` of `torch.float32`."""
    return str(dtype).removeprefix("torch.")
