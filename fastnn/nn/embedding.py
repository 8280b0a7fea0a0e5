"""Embedding: a table of vectors."""

from __future__ import annotations

from fastnn import functional as F
from fastnn import init
from fastnn.autograd import Tensor
from fastnn.descriptors import is_int
from fastnn.nn.module import Layer, Parameter, operands
from fastnn.nn.options import blank, counts, switches

__all__ = ["Embedding"]


class Embedding(Layer):
    """The rows of weight at the integers of the input, (*) to (*, embedding_dim).

    weight: (num_embeddings, embedding_dim), standard normal at first. padding_idx: a row, of zeros at first, that gets
    no gradient. max_norm, norm_type: rows that are looked up are scaled down to this norm, in place.
    scale_grad_by_freq: a row's gradient is divided by how often it was looked up. sparse: must be False. _weight: an
    array or Tensor to use and not to draw; _freeze: it needs no gradient.
    """

    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        padding_idx=None,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
        sparse=False,
        _weight=None,
        _freeze=False,
        device=None,
        dtype=None,
    ):
        counts(self, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None:
            if not is_int(padding_idx):
                raise TypeError(f"Embedding: padding_idx must be an integer or None, got {padding_idx!r}")
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(
                    f"Embedding: padding_idx is {padding_idx}, expected -{num_embeddings} to {num_embeddings - 1}"
                )
            padding_idx %= num_embeddings
        _freeze, scale_grad_by_freq, sparse = switches(
            self, _freeze=_freeze, scale_grad_by_freq=scale_grad_by_freq, sparse=sparse
        )
        if sparse:
            raise ValueError(f"Embedding: sparse is {sparse!r}, expected False: gradients are dense")
        self.padding_idx, self.max_norm, self.norm_type = padding_idx, max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        if _weight is None:
            self.weight = Parameter(blank((num_embeddings, embedding_dim), device, dtype), not _freeze)
            self.reset_parameters()
        else:
            self.weight = Parameter(_weight, not _freeze)
            if self.weight.shape != (num_embeddings, embedding_dim):
                raise ValueError(
                    f"Embedding: _weight has shape {self.weight.shape}, expected {(num_embeddings, embedding_dim)}"
                )

    @classmethod
    def from_pretrained(
        cls,
        embeddings,
        freeze=True,
        padding_idx=None,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
        sparse=False,
    ):
        """The layer of a table, an array or Tensor (num_embeddings, embedding_dim), which is shared."""
        if getattr(embeddings, "ndim", None) != 2:
            came = getattr(embeddings, "shape", type(embeddings).__name__)
            raise ValueError(f"from_pretrained: embeddings must be an array of two dimensions, got {came}")
        return cls(*embeddings.shape, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze)

    def reset_parameters(self):
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0
            self.weight.increment_version()

    def forward(self, input):
        options = self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        if self.max_norm is not None and not isinstance(input, Tensor):
            self.weight.increment_version()  # rows are scaled in place
        return F.embedding(input, *operands(input, self.weight), *options)

    def extra_repr(self):
        options = [("padding_idx", None), ("max_norm", None), ("norm_type", 2), ("scale_grad_by_freq", False)]
        shown = [f"{name}={getattr(self, name)}" for name, default in options if getattr(self, name) != default]
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}", *shown])
