"""A problem, checked and measured once: frozen descriptors made from shapes and options.

Output sizes, operation counts and byte counts live here and nowhere else; ops, reference, kernels, tests and bench
all read them. Making a descriptor raises ValueError, naming the argument, for options that do not fit the shapes.
Descriptors are cached, so that a repeated call pays for its checks once.
"""

from fastnn.descriptors.attention import (
    AttentionDesc,
    additive_attention_desc,
    attention_desc,
)
from fastnn.descriptors.conv import (
    Conv2dDesc,
    conv1d_desc,
    conv2d_desc,
    conv_transpose2d_desc,
)
from fastnn.descriptors.move import (
    PadDesc,
    Upsample2dDesc,
    pad_desc,
    upsample_desc,
    upsample_zeros2d_desc,
)
from fastnn.descriptors.norm import (
    BatchNormDesc,
    ResponseNormDesc,
    RowNormDesc,
    batch_norm_desc,
    group_norm_desc,
    instance_norm_desc,
    layer_norm_desc,
    response_norm_desc,
)
from fastnn.descriptors.options import (
    cached,
    checked_lengths,
    flag,
    hashable,
    is_int,
    number,
    one_of,
    pair,
)
from fastnn.descriptors.pool import (
    MaxUnpool2dDesc,
    Pool2dDesc,
    Subsample2dDesc,
    adaptive_pool1d_desc,
    adaptive_pool2d_desc,
    max_unpool1d_desc,
    max_unpool2d_desc,
    pool1d_desc,
    pool2d_desc,
    subsample2d_desc,
)
from fastnn.descriptors.recurrent import GATES, RecurrentDesc, recurrent_desc

__all__ = [
    "GATES",
    "AttentionDesc",
    "BatchNormDesc",
    "Conv2dDesc",
    "MaxUnpool2dDesc",
    "PadDesc",
    "Pool2dDesc",
    "RecurrentDesc",
    "ResponseNormDesc",
    "RowNormDesc",
    "Subsample2dDesc",
    "Upsample2dDesc",
    "adaptive_pool1d_desc",
    "adaptive_pool2d_desc",
    "additive_attention_desc",
    "attention_desc",
    "batch_norm_desc",
    "cached",
    "checked_lengths",
    "conv1d_desc",
    "conv2d_desc",
    "conv_transpose2d_desc",
    "flag",
    "group_norm_desc",
    "hashable",
    "instance_norm_desc",
    "is_int",
    "layer_norm_desc",
    "max_unpool1d_desc",
    "max_unpool2d_desc",
    "number",
    "one_of",
    "pad_desc",
    "pair",
    "pool1d_desc",
    "pool2d_desc",
    "recurrent_desc",
    "response_norm_desc",
    "subsample2d_desc",
    "upsample_desc",
    "upsample_zeros2d_desc",
]
