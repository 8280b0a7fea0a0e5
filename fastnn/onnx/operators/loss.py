"""Losses over classes, and steps of the optimisers of the training domain."""

import numpy as np

from fastnn import ops
from fastnn.onnx.graph import Node
from fastnn.onnx.operators import operator
from fastnn.onnx.operators.common import through_float32, wanted

TRAINING = "ai.onnx.preview.training"


def options(node):
    found = {"reduction": node.attributes.get("reduction", "mean")}
    if "ignore_index" in node.attributes:
        found["ignore_index"] = node.attributes["ignore_index"]
    return found


@operator("NegativeLogLikelihoodLoss", since=12)
@through_float32
def nll_loss(node, x, target, weight=None):
    return ops.nll_loss_forward(x, target, weight, **options(node), keep=False)[0]


@operator("SoftmaxCrossEntropyLoss", since=12)
@through_float32
def cross_entropy(node, x, target, weight=None):
    """The loss, and the logarithms of the probabilities if they are asked for."""
    if not wanted(node, 1):
        return ops.cross_entropy_forward(x, target, weight, **options(node), keep=False)[0]
    logs = ops.log_softmax_forward(x, 1, keep=False)[0]
    return ops.nll_loss_forward(logs, target, weight, **options(node), keep=False)[0], logs


# ---- optimisers: R, T, X…, G…, states… -> X…, states… ----


def optimizer(name, states):
    """Decorator of step(node, r, t, xs, gs, *states), which gets lists of copies to change in place."""

    def add(step):
        @operator(name, domain=TRAINING)
        def call(node: Node, r, t, *arrays):
            each = 2 + states
            if not arrays or len(arrays) % each:
                raise ValueError(f"{len(arrays)} tensors, expected {each} for each that is optimised")
            n = len(arrays) // each
            x, g, *kept = ([np.array(a) for a in arrays[i * n : (i + 1) * n]] for i in range(each))
            step(node.attributes, float(r), int(t), x, g, *kept)
            return tuple(a for changed in (x, *kept) for a in changed)

        return step

    return add


def decayed(a, g, x):
    """The gradients with that of half the squared norm."""
    coefficient = a.get("norm_coefficient", 0.0)
    for gradient, value in zip(g, x, strict=True):
        gradient += coefficient * value


@optimizer("Adagrad", 1)
def adagrad(a, r, t, x, g, h):
    decayed(a, g, x)
    rate = r / (1 + t * a.get("decay_factor", 0.0))
    for value, gradient, squares in zip(x, g, h, strict=True):
        squares += gradient * gradient
        value -= rate * gradient / (np.sqrt(squares) + a.get("epsilon", 0.0))


@optimizer("Momentum", 1)
def momentum(a, r, t, x, g, v):
    """The first step takes the gradient whole."""
    decayed(a, g, x)
    alpha = a["alpha"]
    beta = a["beta"] if t > 0 else 1.0
    for value, gradient, velocity in zip(x, g, v, strict=True):
        velocity *= alpha
        velocity += beta * gradient
        value -= r * (gradient + alpha * velocity if a["mode"] == "nesterov" else velocity)


@optimizer("Adam", 2)
def adam(a, r, t, x, g, v, h):
    """ONNX corrects for the start from zero by the rate alone: eps is added to the uncorrected root."""
    decayed(a, g, x)
    alpha, beta = a.get("alpha", 0.9), a.get("beta", 0.999)
    if t > 0:
        r = r * (1 - beta**t) ** 0.5 / (1 - alpha**t)
    for value, gradient, mean, squares in zip(x, g, v, h, strict=True):
        mean *= alpha
        mean += (1 - alpha) * gradient
        squares *= beta
        squares += (1 - beta) * gradient * gradient
        value -= r * mean / (np.sqrt(squares) + a.get("epsilon", 0.0))
        value *= 1 - a.get("norm_coefficient_post", 0.0)
