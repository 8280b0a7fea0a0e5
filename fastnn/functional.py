"""Stateless functions with the names and argument order of `torch.nn.functional`: arrays in, arrays out; Tensors in,
Tensors out, which gradients can be taken through. `out` and `inplace` are for arrays.

Functions of one element take any shape, float32 or float64.
"""

from fastnn import ops, tensor_ops
from fastnn.autograd import Tensor, call
from fastnn.descriptors import upsample_desc
from fastnn.random import default_generator

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "add",
    "additive_attention",
    "alpha_dropout",
    "argmax",
    "avg_pool1d",
    "avg_pool2d",
    "batch_norm",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cat",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "dropout",
    "dropout1d",
    "dropout2d",
    "elu",
    "embedding",
    "erf",
    "exp",
    "flatten",
    "gelu",
    "group_norm",
    "gru",
    "gru_step",
    "hardmax",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "instance_norm",
    "interpolate",
    "js_divergence",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log",
    "log_softmax",
    "lp_pool1d",
    "lp_pool2d",
    "lstm",
    "lstm_step",
    "matmul",
    "max_pool1d",
    "max_pool2d",
    "max_unpool1d",
    "max_unpool2d",
    "maximum",
    "min_pool1d",
    "min_pool2d",
    "minimum",
    "mse_loss",
    "nll_loss",
    "pad",
    "relu",
    "relu6",
    "rms_norm",
    "rnn",
    "rnn_step",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "split",
    "stack",
    "subsample2d",
    "tanh",
    "unflatten",
    "upsample_zeros2d",
    "where",
    "whiten",
]


def relu(input, *, out=None):
    """max(input, 0), written to out if that is given."""
    return call(ops.relu_forward, input, out=out)


def sigmoid(input, *, out=None):
    """1 / (1 + exp(-input)), written to out if that is given."""
    return call(ops.sigmoid_forward, input, out=out)


def tanh(input, *, out=None):
    """Hyperbolic tangent, written to out if that is given."""
    return call(ops.tanh_forward, input, out=out)


def leaky_relu(input, negative_slope=0.01, *, out=None):
    """input if input > 0, else negative_slope * input, written to out if that is given."""
    return call(ops.leaky_relu_forward, input, negative_slope, out=out)


def elu(input, alpha=1.0, *, out=None):
    """input if input > 0, else alpha * (exp(input) - 1), written to out if that is given."""
    return call(ops.elu_forward, input, alpha, out=out)


def gelu(input, approximate="none", *, out=None):
    """input times the normal distribution of input, or its approximation by "tanh", written to out if that is given."""
    return call(ops.gelu_forward, input, approximate, out=out)


def silu(input, *, out=None):
    """input * sigmoid(input), written to out if that is given."""
    return call(ops.silu_forward, input, out=out)


def softplus(input, beta=1.0, threshold=20.0, *, out=None):
    """log(1 + exp(beta * input)) / beta; input where beta * input > threshold, written to out if that is given."""
    return call(ops.softplus_forward, input, beta, threshold, out=out)


def hardtanh(input, min_val=-1.0, max_val=1.0, *, out=None):
    """input clipped to [min_val, max_val], written to out if that is given."""
    return call(ops.hardtanh_forward, input, min_val, max_val, out=out)


def relu6(input, *, out=None):
    """input clipped to [0, 6], written to out if that is given."""
    return call(ops.relu6_forward, input, out=out)


def hardsigmoid(input, *, out=None):
    """(input + 3) / 6 clipped to [0, 1], written to out if that is given."""
    return call(ops.hardsigmoid_forward, input, out=out)


def hardswish(input, *, out=None):
    """input * hardsigmoid(input), written to out if that is given."""
    return call(ops.hardswish_forward, input, out=out)


def exp(input, *, out=None):
    """e^input, written to out if that is given."""
    return call(ops.exp_forward, input, out=out)


def log(input, *, out=None):
    """Natural logarithm, written to out if that is given."""
    return call(ops.log_forward, input, out=out)


def erf(input, *, out=None):
    """Error function, written to out if that is given."""
    return call(ops.erf_forward, input, out=out)


def dropped(forward, input, p, training, inplace, seed, generator):
    """forward with the numbers of a seed, or of a generator's next call; it draws none if it needs none."""
    array = input.array if isinstance(input, Tensor) else input
    if not training or p == 0:  # input itself, as in torch, once it has been checked
        y = call(forward, array, p, seed=0, training=training, out=array)
        return y if array is input else input
    seed, offset = (generator or default_generator).draw() if seed is None else (seed, 0)
    out = input if inplace and array is input else None
    return call(forward, input, p, seed=seed, offset=offset, training=training, out=out)


def dropout(input, p=0.5, training=True, inplace=False, *, seed=None, generator=None):
    """0 with probability p, else input / (1 - p); input itself if not training.

    inplace: written to input, unless that is a Tensor. Random numbers: those of `seed`; else of `generator`, a
    fastnn.Generator; else of the process's (fastnn.manual_seed).
    """
    return dropped(ops.dropout_forward, input, p, training, inplace, seed, generator)


def dropout1d(input, p=0.5, training=True, inplace=False, *, seed=None, generator=None):
    """The same of whole channels of input (N, C, L) or (C, L)."""
    return dropped(ops.dropout1d_forward, input, p, training, inplace, seed, generator)


def dropout2d(input, p=0.5, training=True, inplace=False, *, seed=None, generator=None):
    """The same of whole channels of input (N, C, H, W)."""
    return dropped(ops.dropout2d_forward, input, p, training, inplace, seed, generator)


def alpha_dropout(input, p=0.5, training=False, inplace=False, *, seed=None, generator=None):
    """Dropout that keeps mean 0 and variance 1, for SELU; see ops.alpha_dropout_forward."""
    return dropped(ops.alpha_dropout_forward, input, p, training, inplace, seed, generator)


def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """The rows of weight (V, D) at the integer indices input, (*input.shape, D); see ops.embedding_forward."""
    options = padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
    if max_norm is not None and isinstance(weight, Tensor):
        weight.increment_version()  # rows are scaled in place
    return call(ops.embedding_forward, input, weight, *options)


def softmax(input, dim):
    """exp(input) / Σ exp(input) along the axis dim."""
    return call(ops.softmax_forward, input, dim)


def log_softmax(input, dim):
    """log softmax along the axis dim."""
    return call(ops.log_softmax_forward, input, dim)


def argmax(input, dim):
    """Index of the first largest element along the axis dim, int64."""
    return call(ops.argmax_forward, input, dim)


def hardmax(input, dim):
    """1 at argmax along the axis dim, 0 elsewhere."""
    return call(ops.hardmax_forward, input, dim)


def cross_entropy(input, target, weight=None, *, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """Cross-entropy of softmax(input) along axis 1 at the class indices or probabilities target; input (N, C) or
    (N, C, d1, …), weight (C,).

    Options are by keyword: torch has others between them.
    """
    options = {"ignore_index": ignore_index, "reduction": reduction, "label_smoothing": label_smoothing}
    return call(ops.cross_entropy_forward, input, target, weight, **options)


def nll_loss(input, target, weight=None, *, ignore_index=-100, reduction="mean"):
    """-weight input at the class indices target along axis 1; see ops.nll_loss_forward."""
    return call(ops.nll_loss_forward, input, target, weight, ignore_index=ignore_index, reduction=reduction)


def js_divergence(p, q, dim=-1, *, reduction="mean"):
    """Jensen-Shannon divergence of p and q along the axis dim, in bits; see ops.js_divergence_forward."""
    return call(ops.js_divergence_forward, p, q, dim, reduction)


def mse_loss(input, target, *, reduction="mean"):
    """Mean of (input - target)^2; or its "sum", or with "none" the squares themselves."""
    return call(ops.mse_loss_forward, input, target, reduction)


def l1_loss(input, target, *, reduction="mean"):
    """Mean of |input - target|; or its "sum", or with "none" the values themselves."""
    return call(ops.l1_loss_forward, input, target, reduction)


def smooth_l1_loss(input, target, *, reduction="mean", beta=1.0):
    """The same with d^2 / (2 beta) in place of d - beta / 2 below beta."""
    return call(ops.smooth_l1_loss_forward, input, target, reduction, beta)


def huber_loss(input, target, reduction="mean", delta=1.0):
    """Mean of d^2 / 2 for d = |input - target| < delta, else of delta (d - delta / 2)."""
    return call(ops.huber_loss_forward, input, target, reduction, delta)


def binary_cross_entropy(input, target, weight=None, *, reduction="mean"):
    """Cross-entropy of the probabilities input at the probabilities target; see ops.binary_cross_entropy_forward."""
    return call(ops.binary_cross_entropy_forward, input, target, weight, reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, *, reduction="mean", pos_weight=None):
    """Cross-entropy of sigmoid(input) at the probabilities target; see ops.binary_cross_entropy_with_logits_forward."""
    return call(ops.binary_cross_entropy_with_logits_forward, input, target, weight, reduction, pos_weight)


def kl_div(input, target, *, reduction="mean", log_target=False):
    """target (log target - input), input holding logarithms; see ops.kl_div_forward."""
    return call(ops.kl_div_forward, input, target, reduction, log_target)


def linear(input, weight, bias=None):
    """input weight^T + bias; input (*, D), weight (M, D), bias (M,) or None; returns (*, M)."""
    return call(ops.linear_forward, input, weight, bias)


def matmul(input, other):
    """The matrix product of input (M, K) and other (K, N)."""
    return call(ops.matmul_forward, input, other)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of input (N, C, H, W) with weight (K, C/groups, R, S); see ops.conv2d_forward."""
    return call(ops.conv2d_forward, input, weight, bias, stride, padding, dilation, groups)


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation of input (N, C, L) with weight (K, C/groups, R); see ops.conv1d_forward."""
    return call(ops.conv1d_forward, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution of input (N, K, H, W), weight (K, C/groups, R, S); see ops.conv_transpose2d_forward."""
    return call(ops.conv_transpose2d_forward, input, weight, bias, stride, padding, output_padding, groups, dilation)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Maximum of every window of input (N, C, H, W), or (maximum, index in the plane); see ops.max_pool2d_forward."""
    options = stride, padding, dilation, ceil_mode, return_indices
    return call(ops.max_pool2d_forward, input, kernel_size, *options)


def min_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Minimum of every window of input (N, C, H, W), or (minimum, index in the plane); see ops.min_pool2d_forward."""
    options = stride, padding, dilation, ceil_mode, return_indices
    return call(ops.min_pool2d_forward, input, kernel_size, *options)


def avg_pool2d(
    input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    """Average of every window of input (N, C, H, W); see ops.avg_pool2d_forward."""
    return call(
        ops.avg_pool2d_forward, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Maximum of every window of input (N, C, L), or (maximum, index in the row); see ops.max_pool1d_forward."""
    options = stride, padding, dilation, ceil_mode, return_indices
    return call(ops.max_pool1d_forward, input, kernel_size, *options)


def min_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Minimum of every window of input (N, C, L), or (minimum, index in the row); see ops.min_pool1d_forward."""
    options = stride, padding, dilation, ceil_mode, return_indices
    return call(ops.min_pool1d_forward, input, kernel_size, *options)


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """Average of every window of input (N, C, L); see ops.avg_pool1d_forward."""
    return call(ops.avg_pool1d_forward, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """(Σ input^norm_type)^(1/norm_type) of every window of input (N, C, H, W); see ops.lp_pool2d_forward."""
    return call(ops.lp_pool2d_forward, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """(Σ input^norm_type)^(1/norm_type) of every window of input (N, C, L); see ops.lp_pool2d_forward."""
    return call(ops.lp_pool1d_forward, input, norm_type, kernel_size, stride, ceil_mode)


def adaptive_avg_pool2d(input, output_size):
    """Average of windows that share out input (N, C, H, W), all of it with output_size 1; see
    ops.adaptive_max_pool2d_forward."""
    return call(ops.adaptive_avg_pool2d_forward, input, output_size)


def adaptive_avg_pool1d(input, output_size):
    """Average of windows that share out input (N, C, L); see ops.adaptive_max_pool2d_forward."""
    return call(ops.adaptive_avg_pool1d_forward, input, output_size)


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """Maximum of windows that share out input (N, C, H, W), or (maximum, index in the plane); see
    ops.adaptive_max_pool2d_forward."""
    return call(ops.adaptive_max_pool2d_forward, input, output_size, return_indices)


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """Maximum of windows that share out input (N, C, L), or (maximum, index in the row); see
    ops.adaptive_max_pool2d_forward."""
    return call(ops.adaptive_max_pool1d_forward, input, output_size, return_indices)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Zeros, but input (N, C, H, W) at the indices that max_pool2d returned; see ops.max_unpool2d_forward."""
    return call(ops.max_unpool2d_forward, input, indices, kernel_size, stride, padding, output_size)


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """Zeros, but input (N, C, L) at the indices that max_pool1d returned; see ops.max_unpool1d_forward."""
    return call(ops.max_unpool1d_forward, input, indices, kernel_size, stride, padding, output_size)


def subsample2d(input, block, position="upper_left"):
    """One pixel of every block of input (N, C, H, W): its upper left or its middle; see ops.subsample2d_forward."""
    return call(ops.subsample2d_forward, input, block, position)


UPSAMPLERS = {
    ("nearest", 3): ops.upsample_nearest1d_forward,
    ("nearest", 4): ops.upsample_nearest2d_forward,
    ("linear", 3): ops.upsample_linear1d_forward,
    ("bilinear", 4): ops.upsample_bilinear2d_forward,
}
"""By mode, and dimensions of the input."""


def interpolate(
    input,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    """input resampled to size, or by scale_factor; mode "nearest" of (N, C, L) or (N, C, H, W), "linear" of the former,
    "bilinear" of the latter.

    recompute_scale_factor: the ratio of the sizes counts, and not scale_factor itself. antialias must be False. See
    ops.upsample_nearest2d_forward and ops.upsample_bilinear2d_forward.
    """
    if not any(mode == known for known, _ in UPSAMPLERS):
        raise ValueError(f"interpolate: mode is {mode!r}, expected 'nearest', 'linear' or 'bilinear'")
    ndim = getattr(input, "ndim", None)
    if ndim is None:
        raise TypeError(f"interpolate: input must be a NumPy array of float32 or float64, got {type(input).__name__}")
    upsampler = UPSAMPLERS.get((mode, ndim))
    if upsampler is None:
        expected = " or ".join(str(n) for known, n in UPSAMPLERS if known == mode)
        raise ValueError(f"interpolate: input has {ndim} dimensions, expected {expected} in mode {mode!r}")
    if antialias:
        raise ValueError("interpolate: antialias is True, expected False: there is no such kernel")
    if mode == "nearest" and align_corners is not None:
        raise ValueError(f"interpolate: align_corners is {align_corners!r}, expected None in mode 'nearest'")
    if recompute_scale_factor and scale_factor is not None:
        if size is not None:
            raise ValueError("interpolate: size and scale_factor are given, expected one of them")
        size = upsample_desc("interpolate", input.shape, None, scale_factor).y_shape[6 - ndim :]
        scale_factor = None
    options = () if mode == "nearest" else (bool(align_corners),)
    return call(upsampler, input, size, scale_factor, *options)


def upsample_zeros2d(input, stride):
    """input (N, C, H, W) with zeros between pixels, which are stride apart; see ops.upsample_zeros2d_forward."""
    return call(ops.upsample_zeros2d_forward, input, stride)


def pad(input, pad, mode="constant", value=None):
    """input with pad = (before, behind) the last axis, then the one before it, …; value is 0 if None. See
    ops.pad_forward."""
    return call(ops.pad_forward, input, pad, mode, 0.0 if value is None else value)


def flatten(input, start_dim=0, end_dim=-1):
    """input with the axes start_dim to end_dim as one: a view where possible."""
    return call(tensor_ops.flatten_forward, input, start_dim, end_dim)


def unflatten(input, dim, sizes):
    """input with the axis dim as several, of the lengths sizes, one of which may be -1."""
    return call(tensor_ops.unflatten_forward, input, dim, sizes)


def cat(tensors, dim=0):
    """The arrays of a list one after the other along the axis dim."""
    return call(ops.concat_forward, tensors, dim)


def stack(tensors, dim=0):
    """The arrays of a list, all of one shape, along a new axis dim."""
    return call(tensor_ops.stack_forward, tensors, dim)


def split(tensor, split_size_or_sections, dim=0):
    """A tuple of views of parts along the axis dim: of one size, the last may be smaller, or of these sizes."""
    return call(tensor_ops.split_forward, tensor, split_size_or_sections, dim)


def where(condition, input, other):
    """input where condition, of bools, holds, else other; all broadcast, and one of the two may be a number."""
    return call(tensor_ops.where_forward, condition, input, other)


def maximum(input, other):
    """The larger of input and other, which broadcast, NaN if one is; one may be a number. Equal ones share the
    gradient."""
    return call(tensor_ops.maximum_forward, input, other)


def minimum(input, other):
    """The smaller of the two, as in maximum."""
    return call(tensor_ops.minimum_forward, input, other)


def add(input, other, *, relu=False, out=None):
    """input + other, of one shape, or max(input + other, 0), written to out if that is given."""
    return call(ops.add_forward, input, other, relu=relu, out=out)


def batch_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=1e-5,
    *,
    residual=None,
    relu=False,
):
    """(input - mean) / sqrt(var + eps) * weight + bias in each channel of input (N, C) or (N, C, *spatial).

    training: statistics of the batch, and running_mean and running_var are updated in place; else these are used.
    residual: an array of input's shape to add, None for none; relu: then max(·, 0). Both in the same pass.
    """
    return call(
        ops.batch_norm_forward,
        input, weight, bias, running_mean, running_var, residual, relu=relu, training=training, momentum=momentum,
        eps=eps)  # fmt: skip


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(input - mean) / sqrt(var + eps) * weight + bias over the last axes of input, whose shape is normalized_shape."""
    return call(ops.layer_norm_forward, input, normalized_shape, weight, bias, eps)


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """input / sqrt(mean of input^2 + eps) * weight over the last axes of input; eps None: the machine epsilon."""
    return call(ops.rms_norm_forward, input, normalized_shape, weight, eps)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """(input - mean) / sqrt(var + eps) * weight + bias in each group of channels of input (N, C, *spatial)."""
    return call(ops.group_norm_forward, input, num_groups, weight, bias, eps)


def instance_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    """(input - mean) / sqrt(var + eps) * weight + bias in each channel of a sample, input (N, C, *spatial).

    use_input_stats: statistics of input, and running_mean and running_var are updated in place; else these are used.
    """
    options = use_input_stats, momentum, eps
    return call(ops.instance_norm_forward, input, running_mean, running_var, weight, bias, *options)


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """input / (k + alpha / size Σ input^2)^beta, the sum over `size` channels of input (N, C, *spatial)."""
    return call(ops.local_response_norm_forward, input, size, alpha, beta, k)


def whiten(input, running_mean=None, running_cov=None, method="zca", training=False, momentum=0.1, eps=1e-5):
    """Features of input (N, D) made uncorrelated, of variance 1, by "pca" or "zca"; see ops.whiten_forward.

    training: statistics of the batch, and running_mean and running_cov are updated in place; else these are used.
    """
    options = method, training, momentum, eps
    return call(ops.whiten_forward, input, running_mean, running_cov, *options)


def rnn_step(input, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, nonlinearity="tanh"):
    """One step of a simple recurrent network: the state (N, H) from input (N, D) and the state before.

    w_ih (H, D), w_hh (H, H), biases (H,) or None. h0: (N, H), None for zeros. nonlinearity: "tanh" or "relu".
    """
    return call(ops.rnn_step_forward, input, w_ih, w_hh, b_ih, b_hh, h0=h0, nonlinearity=nonlinearity)


def rnn(input, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, nonlinearity="tanh", lengths=None, reverse=False):
    """The same over a sequence, input (T, N, D): (y, h), y (T, N, H) all states, h (N, H) the last.

    lengths: (N,) how many times each sample has, None for T; y is zero behind them. reverse: from last to first.
    """
    options = {"nonlinearity": nonlinearity, "lengths": lengths, "reverse": reverse}
    return call(ops.rnn_forward, input, w_ih, w_hh, b_ih, b_hh, h0=h0, **options)


def gru_step(input, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, variant="torch"):
    """One step of a gated recurrent unit: the state (N, H) from input (N, D) and the state before.

    w_ih (3H, D), w_hh (3H, H), biases (3H,) or None, with rows in the order of gates r, z, n. h0: (N, H), None for
    zeros. variant: "torch", or "paper" for that of 2014; see ops.gru_step_forward.
    """
    return call(ops.gru_step_forward, input, w_ih, w_hh, b_ih, b_hh, h0=h0, variant=variant)


def gru(input, w_ih, w_hh, b_ih=None, b_hh=None, *, h0=None, variant="torch", lengths=None, reverse=False):
    """The same over a sequence, with the results and options of rnn."""
    options = {"variant": variant, "lengths": lengths, "reverse": reverse}
    return call(ops.gru_forward, input, w_ih, w_hh, b_ih, b_hh, h0=h0, **options)


def lstm_step(input, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, *, h0=None, c0=None):
    """One step of a long short-term memory: the states (h, c) from input (N, D) and the states before.

    w_ih (4H, D), w_hh (4H, P), biases (4H,) or None, with rows in the order of gates i, f, g, o; w_hr (P, H), a
    projection of h, or None (P = H). h0: (N, P), c0: (N, H), None for zeros.
    """
    return call(ops.lstm_step_forward, input, w_ih, w_hh, b_ih, b_hh, w_hr, h0=h0, c0=c0)


def lstm(input, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, *, h0=None, c0=None, lengths=None, reverse=False):
    """The same over a sequence, input (T, N, D): (y, h, c), y (T, N, P) all hidden states, h and c the last.

    lengths and reverse: as in rnn.
    """
    options = {"lengths": lengths, "reverse": reverse}
    return call(ops.lstm_forward, input, w_ih, w_hh, b_ih, b_hh, w_hr, h0=h0, c0=c0, **options)


def scaled_dot_product_attention(
    query,
    key,
    value,
    attn_mask=None,
    dropout_p=0.0,
    is_causal=False,
    scale=None,
    enable_gqa=False,
    *,
    need_weights=False,
):
    """softmax(scale query keyᵀ + attn_mask) value over the keys; see ops.scaled_dot_product_attention_forward.

    attn_mask: of bools, True where a query sees a key, or numbers to add. dropout_p: with this probability a weight is
    dropped, whatever the mode; the weights are then stored. need_weights: (result, weights); gradients can be taken
    through both.
    """
    arguments = query, key, value, attn_mask, is_causal, scale, enable_gqa
    if dropout_p:
        _, weights = call(ops.scaled_dot_product_attention_weights_forward, *arguments)
        weights = dropout(weights, dropout_p)
        if value.shape[:-2] != weights.shape[:-2]:  # heads that share their values
            group = weights.shape[-3] // value.shape[-3]
            value = call(tensor_ops.stack_forward, [value] * group, -3)
            value = call(tensor_ops.reshape_forward, value, (*weights.shape[:-2], *value.shape[-2:]))
        y = call(tensor_ops.product_forward, weights, value)
        return (y, weights) if need_weights else y
    if need_weights:
        return call(ops.scaled_dot_product_attention_weights_forward, *arguments)
    return call(ops.scaled_dot_product_attention_forward, *arguments)


def additive_attention(query, key, weight, value, attn_mask=None, *, need_weights=False):
    """softmax(e + attn_mask) value over the keys, e_ts = weight · tanh(query_t + key_s), of queries (…, T, A) and keys
    (…, S, A) that are projected already; see ops.additive_attention_forward.

    attn_mask, need_weights: as in scaled_dot_product_attention.
    """
    y, weights = call(ops.additive_attention_forward, query, key, weight, value, attn_mask)
    return (y, weights) if need_weights else y
