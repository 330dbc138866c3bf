"""ATen operator names and the names of the vocabulary they stand for: tables, and nothing that is computed."""

from __future__ import annotations

TRANSPARENT = frozenset(
    {"alias", "detach", "lift_fresh", "lift", "lift_fresh_copy", "requires_grad", "resolve_conj", "resolve_neg"}
)
"""Operators that make no node, not even a silent one."""

CASTS = frozenset({"to", "_to_copy", "type_as", "contiguous", "clone"})
"""Operators that make a node only where they change the type or copy."""

NOTHING = frozenset(
    {"_assert_async", "_assert_scalar", "_assert_tensor_metadata", "record_stream", "_functional_assert_async"}
)
"""Operators that check something and compute nothing."""

RANDOM = frozenset(
    "rand randn randint rand_like randn_like randint_like randperm bernoulli multinomial normal uniform exponential "
    "random poisson cauchy geometric log_normal binomial native_dropout".split()
)
"""Operators whose result differs from run to run."""

_TABLE = """
=             relu relu6 silu gelu sigmoid tanh mish glu hardswish hardsigmoid neg abs mean sum cumsum
elu           elu selu celu
softplus      softplus log_sigmoid log_sigmoid_forward
softmax       softmax _softmax log_softmax _log_softmax _safe_softmax softmin
add           add _fused_add
cumsum        cumprod logcumsumexp
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
pad           replication_pad3d _pad_circular _jagged_to_padded_dense_forward _nested_to_padded_tensor
max           max amax amin min maximum minimum fmax fmin
argmax        argmax argmin
gather        gather index index_select take_along_dim take _unsafe_index _unsafe_masked_index
gather        _padded_dense_to_jagged_forward
leakyrelu     leaky_relu prelu _prelu_kernel rrelu rrelu_with_noise
compare       eq ne lt le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not
compare       isnan isinf
compare       isfinite isin isclose greater less greater_equal less_equal not_equal isneginf isposinf signbit __and__
compare       __or__
compare       __xor__ __iand__ __ior__ __ixor__
unary         sin cos tan asin acos atan sinh cosh asinh acosh atanh erf erfc erfinv floor ceil round trunc frac sign
unary         sgn
unary         reciprocal lgamma digamma nan_to_num tril triu logit i0 special_i0 sinc softshrink hardshrink angle conj
unary         _conj
unary         polygamma mvlgamma frexp chalf rad2deg special_polygamma special_erfcx special_ndtr special_ndtri
unary         special_log_ndtr special_entr special_i0e special_i1 special_i1e
unary         fused_moving_avg_obs_fake_quant _fused_moving_avg_obs_fq_helper quantize_per_channel
unary         fake_quantize_per_tensor_affine_cachemask fake_quantize_per_channel_affine_cachemask
unary         quantize_per_token dequantize_per_tensor dequantize_per_channel dequantize_per_token
unary         fake_quant_per_channel quantize_per_channel_group dequantize_per_channel_group
unary         _fake_quantize_per_tensor_affine_cachemask_tensor_qparams quantize_per_tensor_dynamic
unary         _conj_physical conj_physical fill cummax cummin deg2rad positive fake_quantize_per_tensor_affine
unary         fake_quantize_per_channel_affine quantize_per_tensor dequantize logical_shift
binary        atan2 remainder fmod copysign hypot logaddexp logaddexp2 lerp addcmul addcdiv bitwise_xor
binary        bitwise_left_shift
binary        bitwise_right_shift __lshift__ __rshift__ xlogy complex polar nextafter floor_remainder mse_loss heaviside
binary        igamma igammac cross linalg_cross special_xlog1py special_zeta renorm smooth_l1_loss huber_loss
binary        binary_cross_entropy binary_cross_entropy_with_logits soft_margin_loss multi_margin_loss
binary        multilabel_margin_loss poisson_nll_loss
binary        bitwise_and_scalar ldexp gcd lcm _weight_norm _weight_norm_interface
reduce        prod any all var std var_mean std_mean norm linalg_vector_norm linalg_norm logsumexp median nanmedian mode
reduce        histogram nanquantile linalg_matrix_norm _sparse_sum count_nonzero nansum aminmax histc bincount
reduce        quantile _unique_count dist
batchnorm     batch_norm native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm _batch_norm_no_update
batchnorm     _batch_norm_with_update _native_batch_norm_legit _batch_norm_impl_index
layernorm     layer_norm native_layer_norm
groupnorm     group_norm native_group_norm
instancenorm  instance_norm
rmsnorm       rms_norm _fused_rms_norm
maxpool       max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
avgpool       avg_pool1d avg_pool2d avg_pool3d
adaptivepool  adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
adaptivepool  adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d
matmul        matmul mm bmm addmm baddbmm addbmm mv addmv dot vdot inner outer ger addr linalg_multi_dot chain_matmul
matmul        _sparse_mm _sparse_sparse_matmul _sparse_addmm hspmm smm sspaddmm sparse_sampled_addmm
matmul        _int_mm _grouped_mm _scaled_mm _scaled_mm_v2 _scaled_grouped_mm _scaled_grouped_mm_v2 linalg_vecdot
attention     scaled_dot_product_attention _scaled_dot_product_flash_attention_for_cpu
attention     _scaled_dot_product_attention_math
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
scatter       scatter scatter_add scatter_reduce index_add index_put _index_put_impl _unsafe_index_put index_copy
scatter       index_fill
scatter       index_reduce masked_scatter put slice_scatter select_scatter diagonal_scatter segment_reduce
scatter       _convert_indices_from_coo_to_csr _convert_indices_from_csr_to_coo
scatter       as_strided_scatter sparse_coo_tensor _sparse_coo_tensor_unsafe _sparse_coo_tensor_with_dims_and_tensors
scatter       sparse_csr_tensor sparse_csc_tensor sparse_compressed_tensor _sparse_compressed_tensor_unsafe to_dense
scatter       _to_dense _sparse_csr_tensor_unsafe _sparse_compressed_tensor_with_dims
scatter       _unsafe_masked_index_put_accumulate
sort          coalesce _coalesce sort topk argsort kthvalue msort searchsorted bucketize
select        nonzero masked_select _unique2 _unique unique_dim unique_consecutive nms repeat_interleave nonzero_static
select        argwhere nonzero_numpy to_sparse _to_sparse _to_sparse_csr _to_sparse_csc _to_sparse_bsr _to_sparse_bsc
select        sparse_mask _sparse_mask_projection to_sparse_csr to_sparse_csc to_sparse_coo
patches       im2col col2im
unpool        max_unpool2d max_unpool3d
roi           roi_align roi_pool ps_roi_align ps_roi_pool
deform        deform_conv2d
fft           fft_fft fft_ifft fft_fft2 fft_ifft2 fft_rfft fft_irfft fft_rfft2 fft_irfft2 fft_fftn fft_ifftn fft_rfftn
fft           fft_irfftn _fft_r2c _fft_c2r _fft_c2c stft istft fft_hfft fft_ihfft
algebra       linalg_inv linalg_inv_ex inverse linalg_solve _linalg_solve_ex linalg_cholesky linalg_cholesky_ex cholesky
algebra       linalg_qr _linalg_svd linalg_svd linalg_eigh _linalg_eigh linalg_eig linalg_det _linalg_det slogdet
algebra       _linalg_slogdet linalg_matrix_exp matrix_exp linalg_lu_factor_ex linalg_lu_solve triangular_solve
algebra       ormqr geqrf lu_unpack lu_solve _lu_with_info cholesky_inverse linalg_householder_product linalg_lu
algebra       linalg_lu_factor linalg_ldl_factor linalg_ldl_factor_ex linalg_ldl_solve linalg_eigvals linalg_eigvalsh
algebra       _linalg_eigvals linalg_svdvals
algebra       linalg_solve_triangular cholesky_solve linalg_pinv pinverse linalg_lstsq logdet
copy          alias_copy as_strided_copy diagonal_copy narrow_copy split_with_sizes_copy t_copy transpose_copy
copy          unbind_copy unfold_copy _chunk_cat
copy          copy view_as_complex_copy view_as_real_copy
zeros         zeros zeros_like new_zeros zero
constant      ones ones_like new_ones full full_like new_full arange linspace eye scalar_tensor one_hot tril_indices
constant      logspace triu_indices hann_window hamming_window meshgrid
identity      dropout feature_dropout alpha_dropout feature_alpha_dropout rename_
view          view reshape _unsafe_view _reshape_alias flatten unflatten squeeze unsqueeze view_as view_as_real
view          view_as_complex as_strided reshape_as ravel real imag view_copy squeeze_copy unsqueeze_copy atleast_1d
view          resize resize_as set atleast_2d atleast_3d values indices _values _indices crow_indices col_indices
view          ccol_indices row_indices
permute       permute transpose movedim t numpy_T swapaxes swapdims adjoint mT mH moveaxis swapaxes_ permute_copy
slice         slice select narrow split split_with_sizes tensor_split chunk unbind unfold diagonal hsplit vsplit
slice         unsafe_split
slice         unsafe_chunk unsafe_split_with_sizes diag diag_embed trace split_copy slice_copy select_copy
expand        expand expand_as repeat tile broadcast_to broadcast_tensors expand_copy
recurrent     lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell mkldnn_rnn_layer quantized_lstm
"""
"""Vocabulary name, then the ATen names it stands for; `=` keeps the name."""

NAMES: dict[str, str] = dict.fromkeys(RANDOM, "random") | {
    name: name if op == "=" else op for op, *names in map(str.split, _TABLE.strip().splitlines()) for name in names
}
"""Vocabulary name of every ATen operator that has one."""

PLAIN = frozenset(
    "relu relu6 elu silu gelu sigmoid tanh softplus softmax mish glu hardswish hardsigmoid add sub mul div pow neg exp "
    "log sqrt abs clamp where mean sum max argmax cumsum gather square pad pixel_shuffle leaky_relu hardtanh _softmax "
    "multiply divide true_divide masked_fill constant_pad_nd clip clamp_min clamp_max index cat concat amax dropout "
    "copy".split()
)
"""ATen names that need no attribute `function`, because the vocabulary's name says it."""
DIMS = frozenset({"dim", "dims", "axis", "dim0", "dim1", "start_dim", "end_dim"})
"""Arguments that name axes."""
DROPPED = frozenset(
    "dtype device layout pin_memory memory_format generator non_blocking copy implicit half_to_float antialias_ out "
    "train training".split()
)
"""Arguments that change nothing about what is computed."""
