"""The layers of Stanford's course CS231n, "Deep Learning for Computer Vision", with its names, arguments and
conventions, on fastnn's kernels: its notebooks run with the import changed.

    from fastnn.compat.cs231n.fast_layers import *

Sub-modules are named as those of the course; all their names are here too.
"""

from fastnn.compat.cs231n import fast_layers, gradient_check, im2col, layer_utils, layers, optim, rnn_layers
from fastnn.compat.cs231n.gradient_check import *  # noqa: F403
from fastnn.compat.cs231n.layer_utils import *  # noqa: F403
from fastnn.compat.cs231n.optim import *  # noqa: F403
from fastnn.compat.cs231n.rnn_layers import *  # noqa: F403

__all__ = [
    "fast_layers",
    "gradient_check",
    "im2col",
    "layer_utils",
    "layers",
    "optim",
    "rnn_layers",
]
for module in (gradient_check, layer_utils, optim, rnn_layers):
    __all__ += module.__all__
del module
