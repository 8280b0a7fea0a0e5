"""Every option of every layer's constructor, with values that are not of its kind: TypeError or ValueError that
names the option, when the layer is made or at the latest when it is first called."""

import inspect

import numpy as np
import pytest

from fastnn import nn

NAN = float("nan")
WORDS = ["text", ("a", "b"), 1j, {}]

# Wrong values, by what the option is. Layers know more than this: see their tests.
KINDS = {
    "switch": ["text", "", None, 0, 1, 1.5, NAN, (), ("a",), 1j, {}],
    "size": [*WORDS, None, 1.5, True, NAN, -1, ()],
    "size or None": [*WORDS, 1.5, True, NAN, -1, ()],
    "sizes": [*WORDS, None, 1.5, True, NAN, -1, 0, (), (1,) * 9],
    "sizes or None": [*WORDS, 1.5, True, NAN, -1, 0, (), (1,) * 9],
    "paddings": [*WORDS, None, 1.5, True, NAN, (), (1,) * 9],
    "number": [*WORDS, None, True, (), [1.0]],
    "number or None": [*WORDS, True, (), [1.0]],
    "probability": [*WORDS, None, True, -0.5, 1.5, NAN, (), [0.5]],
    "at least 0": [*WORDS, None, True, -1, NAN, (), [1.0]],
    "at least 0, or None": [*WORDS, True, -1, NAN, (), [1.0]],
    "axis": [*WORDS, 1.5, True, NAN, (), 9, -9],
    "mode": [*WORDS, None, 1, True, NAN, ()],
    "dtype": ["text", "int32", 1.5, True, NAN, -1, (), 1j, np.float16, object()],
    "device": ["cuda", 0, 1.5, True, ("a", "b"), 1j],
    "array": [*WORDS, 1.5, True, NAN, [1.0]],
    "scale": ["text", ("a", "b"), 1j, True, -1, NAN, (1.0,) * 9],
    "divisor": [*WORDS, 1.5, True, NAN, 0, (), 2**64],
    "row": [*WORDS, 1.5, True, NAN, (), 99, -99],
    "index": [*WORDS, None, 1.5, True, NAN, (), 2**64],
}
SWITCHES = (
    "inplace", "bias", "affine", "track_running_stats", "elementwise_affine", "batch_first", "bidirectional",
    "add_bias_kv", "add_zero_attn", "return_indices", "ceil_mode", "count_include_pad", "scale_grad_by_freq", "sparse",
    "_freeze", "log_target",
)  # fmt: skip
SIZES = (
    "in_features", "out_features", "in_channels", "out_channels", "num_features", "num_channels", "num_embeddings",
    "embedding_dim", "embed_dim", "input_size", "hidden_size", "num_parameters", "kdim", "vdim", "proj_size",
)  # fmt: skip
NUMBERS = "alpha", "negative_slope", "beta", "threshold", "min_val", "max_val", "init", "norm_type"
MODES = "mode", "approximate", "reduction", "method", "nonlinearity", "variant", "padding_mode", "position"
OPTIONS = {
    **dict.fromkeys(SWITCHES, "switch"),
    **dict.fromkeys(SIZES, "size"),
    **dict.fromkeys(("kernel_size", "dilation", "groups", "num_groups", "num_heads", "num_layers", "block"), "sizes"),
    **dict.fromkeys(("padding", "output_padding"), "paddings"),
    **dict.fromkeys(NUMBERS, "number"),
    **dict.fromkeys(MODES, "mode"),
    **dict.fromkeys(("p", "dropout", "label_smoothing"), "probability"),
    **dict.fromkeys(("eps", "k", "delta"), "at least 0"),
    **dict.fromkeys(("dim", "start_dim", "end_dim"), "axis"),
    **dict.fromkeys(("weight", "pos_weight", "_weight"), "array"),
    "device": "device",
    "dtype": "dtype",
    "ignore_index": "index",
    "max_norm": "at least 0, or None",
    "momentum": "number or None",
    "normalized_shape": "sizes",
    "output_size": "sizes or None",
    "padding_idx": "row",
    "scale_factor": "scale",
    "size": "sizes",
    "stride": "sizes or None",
    "value": "number or None",
    "divisor_override": "divisor",
}  # fmt: skip
ROWS = {
    ("RMSNorm", "eps"): "at least 0, or None",
    ("Upsample", "size"): "sizes or None",
    ("UpsamplingNearest2d", "size"): "sizes or None",
    ("UpsamplingBilinear2d", "size"): "sizes or None",
    ("UpsampleZeros2d", "stride"): "sizes",
    ("MultiheadAttention", "kdim"): "size or None",
    ("MultiheadAttention", "vdim"): "size or None",
}  # fmt: skip
# Former names and switches of torch that are taken and not read.
IGNORED = {"size_average", "reduce", "min_value", "max_value", "recompute_scale_factor", "align_corners"}
# What a message calls an option that the operator knows by another name.
ALIASES = {"dim": "axis", "padding": "pad", "_weight": "data|_weight|embeddings", "size": "size|scale_factor"}


def ones(*shape):
    return np.ones(shape, np.float32)


IMAGES, SIGNALS, ROWS_OF = (ones(2, 4, 6, 6),), (ones(2, 4, 6),), (ones(2, 4),)
BY_AXES = {1: SIGNALS, 2: IMAGES}
PAIR = ones(2, 4) / 2, ones(2, 4) / 2
LABELS = ones(2, 4), np.array([0, 1])
# Layer: (arguments that are right, input).
LAYERS = {
    **{name: ({}, ROWS_OF) for name in (
        "ELU", "GELU", "Hardmax", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSoftmax", "PReLU", "ReLU",
        "ReLU6", "SiLU", "Softmax", "Softplus", "Dropout", "AlphaDropout", "Flatten")},
    **{name: ({}, PAIR) for name in (
        "BCELoss", "BCEWithLogitsLoss", "HuberLoss", "JSDivergence", "KLDivLoss", "L1Loss", "MSELoss", "SmoothL1Loss")},
    **{name: ({}, LABELS) for name in ("CrossEntropyLoss", "NLLLoss")},
    **{f"{kind}{n}d": (arguments, BY_AXES[n]) for n in (1, 2) for kind, arguments in {
        "Dropout": {},
        "Conv": {"in_channels": 4, "out_channels": 4, "kernel_size": 3},
        "ConvTranspose": {"in_channels": 4, "out_channels": 4, "kernel_size": 3},
        "BatchNorm": {"num_features": 4},
        "InstanceNorm": {"num_features": 4, "affine": True},
        **{f"{name}Pool": {"kernel_size": 2} for name in ("Max", "Min", "Avg")},
        "LPPool": {"norm_type": 2, "kernel_size": 2},
        **{f"Adaptive{name}Pool": {"output_size": 2} for name in ("Max", "Avg")},
        **{f"{name}Pad": {"padding": 1} for name in ("Circular", "Reflection", "Replication", "Zero")},
        "ConstantPad": {"padding": 1, "value": 0.5},
    }.items()},
    **{name: ({"input_size": 4, "hidden_size": 3}, (ones(5, 2, 4),)) for name in ("RNN", "GRU", "LSTM")},
    **{f"{name}Cell": ({"input_size": 4, "hidden_size": 3}, ROWS_OF) for name in ("RNN", "GRU", "LSTM")},
    **{name: ({"normalized_shape": 4}, ROWS_OF) for name in ("LayerNorm", "RMSNorm")},
    **{name: ({"scale_factor": 2}, IMAGES) for name in ("Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d")},
    "Embedding": ({"num_embeddings": 5, "embedding_dim": 3}, (np.array([0, 1]),)),
    "GroupNorm": ({"num_groups": 2, "num_channels": 4}, IMAGES),
    "Linear": ({"in_features": 4, "out_features": 3}, ROWS_OF),
    "LocalResponseNorm": ({"size": 2}, IMAGES),
    "MultiheadAttention": ({"embed_dim": 4, "num_heads": 2}, (ones(5, 2, 4),) * 3),
    "SubSample2d": ({"block": 2}, IMAGES),
    "UpsampleZeros2d": ({"stride": 2}, IMAGES),
    "Whiten": ({"num_features": 4}, ROWS_OF),
}  # fmt: skip
# Layers of other layers, functions or nothing, whose own tests try wrong arguments.
OTHERS = {
    "AdditiveAttention", "BatchNorm3d", "DotAttention", "Identity", "InstanceNorm3d", "Layer", "ManyToMany",
    "ManyToOne", "MaxUnpool1d", "MaxUnpool2d", "Module", "ModuleDict", "ModuleList", "OneToMany", "Parallel",
    "Residual", "Sequential", "Sigmoid", "Softmax2d", "Tanh", "Unflatten",
}  # fmt: skip


def kind_of(layer, option):
    return ROWS.get((layer, option), OPTIONS.get(option))


CASES = [
    (layer, option) for layer in LAYERS for option in inspect.signature(getattr(nn, layer)).parameters
    if option not in IGNORED
]  # fmt: skip


def test_every_layer_and_every_option_has_a_row():
    classes = {n for n in nn.__all__ if isinstance(getattr(nn, n), type) and issubclass(getattr(nn, n), nn.Module)}
    assert classes == LAYERS.keys() | OTHERS
    assert [case for case in CASES if kind_of(*case) is None] == []


@pytest.mark.parametrize("layer", LAYERS)
def test_right(layer):
    arguments, inputs = LAYERS[layer]
    getattr(nn, layer)(**arguments)(*inputs)


@pytest.mark.parametrize(("layer", "option"), CASES)
def test_wrong_option(layer, option):
    arguments, inputs = LAYERS[layer]
    if option == "size" and layer.startswith("Upsampl"):  # or else scale_factor
        arguments = {}
    for value in KINDS[kind_of(layer, option)]:
        with pytest.raises((TypeError, ValueError), match=rf"\b({option}|{ALIASES.get(option, option)})\b"):
            getattr(nn, layer)(**{**arguments, option: value})(*inputs)
