"""Losses. reduction: "mean", "sum" or "none"; size_average and reduce, given, are torch's former words for it."""

from __future__ import annotations

from fastnn import functional as F
from fastnn.nn.module import Layer

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "JSDivergence",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class Loss(Layer):
    """`function` of input, target and the attributes that `options` names."""

    function: staticmethod
    options: tuple[str, ...] = ("reduction",)

    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        if size_average is not None or reduce is not None:
            mean = size_average is None or size_average
            reduction = "none" if reduce is not None and not reduce else "mean" if mean else "sum"
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"{type(self).__name__}: reduction is {reduction!r}, expected 'mean', 'sum' or 'none'")
        self.reduction = reduction

    def forward(self, input, target):
        return self.function(input, target, **{name: getattr(self, name) for name in self.options})


class CrossEntropyLoss(Loss):
    """-log softmax(input) along axis 1 at the target's classes, indices or probabilities; input (N, C), (N, C, d1, …)
    or (C,).

    weight: an array (C,), the weights of the classes. Targets equal to ignore_index do not count. label_smoothing: so
    much of the target is shared by all classes. See ops.cross_entropy_forward.
    """

    function = staticmethod(F.cross_entropy)
    options = ("weight", "ignore_index", "reduction", "label_smoothing")

    def __init__(
        self,
        weight=None,
        size_average=None,
        ignore_index=-100,
        reduce=None,
        reduction="mean",
        label_smoothing=0.0,
    ):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing


class NLLLoss(Loss):
    """-input along axis 1 at the target's classes, input holding log-probabilities; see ops.nll_loss_forward."""

    function = staticmethod(F.nll_loss)
    options = ("weight", "ignore_index", "reduction")

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index


class BCELoss(Loss):
    """Cross-entropy of the probabilities input at the probabilities target, times weight; see
    ops.binary_cross_entropy_forward."""

    function = staticmethod(F.binary_cross_entropy)
    options = ("weight", "reduction")

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


class BCEWithLogitsLoss(Loss):
    """Cross-entropy of sigmoid(input) at the probabilities target, times weight; pos_weight: the weight of the positive
    part. See ops.binary_cross_entropy_with_logits_forward."""

    function = staticmethod(F.binary_cross_entropy_with_logits)
    options = ("weight", "reduction", "pos_weight")

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)


class MSELoss(Loss):
    """(input - target)²"""

    function = staticmethod(F.mse_loss)


class L1Loss(Loss):
    """|input - target|"""

    function = staticmethod(F.l1_loss)


class SmoothL1Loss(Loss):
    """d² / (2 beta) for d = |input - target| < beta, else d - beta / 2"""

    function = staticmethod(F.smooth_l1_loss)
    options = ("reduction", "beta")

    def __init__(self, size_average=None, reduce=None, reduction="mean", beta=1.0):
        super().__init__(size_average, reduce, reduction)
        self.beta = beta


class HuberLoss(Loss):
    """d² / 2 for d = |input - target| < delta, else delta (d - delta / 2)"""

    function = staticmethod(F.huber_loss)
    options = ("reduction", "delta")

    def __init__(self, reduction="mean", delta=1.0):
        super().__init__(reduction=reduction)
        self.delta = delta


class KLDivLoss(Loss):
    """target (log target - input), input holding logarithms, and target too with log_target; reduction may be
    "batchmean". See ops.kl_div_forward."""

    function = staticmethod(F.kl_div)
    options = ("reduction", "log_target")

    def __init__(self, size_average=None, reduce=None, reduction="mean", log_target=False):
        super().__init__(size_average, reduce, "sum" if reduction == "batchmean" else reduction)
        if reduction == "batchmean" and size_average is None and reduce is None:
            self.reduction = reduction
        self.log_target = log_target


class JSDivergence(Loss):
    """Jensen-Shannon divergence of the distributions input and target along the axis dim, in bits; see
    ops.js_divergence_forward."""

    function = staticmethod(F.js_divergence)
    options = ("dim", "reduction")

    def __init__(self, dim=-1, reduction="mean"):
        super().__init__(reduction=reduction)
        self.dim = dim
