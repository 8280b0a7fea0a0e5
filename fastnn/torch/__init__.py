"""fastnn's kernels in models of PyTorch: `model = fastnn.torch.accelerate(model)`.

Needs PyTorch: `pip install 'fastnn[torch]'`.
"""

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError("fastnn.torch needs PyTorch: pip install 'fastnn[torch]'") from error

from fastnn.torch.swap import accelerate, restore

__all__ = ["accelerate", "restore"]
