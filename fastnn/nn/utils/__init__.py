"""Clipping of gradients and sequences of different lengths, with torch.nn.utils' names."""

from fastnn.nn.utils import rnn
from fastnn.nn.utils.clipping import clip_grad_norm_, clip_grad_value_

__all__ = ["clip_grad_norm_", "clip_grad_value_", "rnn"]
