"""Clipping of gradients, sequences of different lengths, and undrawn parameters, with torch.nn.utils' names."""

from fastnn.nn.utils import rnn
from fastnn.nn.utils.clipping import clip_grad_norm_, clip_grad_value_
from fastnn.nn.utils.initialization import skip_init

__all__ = ["clip_grad_norm_", "clip_grad_value_", "rnn", "skip_init"]
