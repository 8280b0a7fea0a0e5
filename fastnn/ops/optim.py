"""Optimiser steps and the clipping of gradients (K16), in place, all parameters in one call.

Shared by all: params, grads and states are lists (or tuples) of equally many arrays, each of the shape of its
parameter, all float32 or all float64. What is updated must be writable, aligned, C-contiguous, and share memory with no
other array; grads are only read, in any layout, except when they are clipped. A list that no option needs is None.
The formulas, in torch's notation and order of operations, are those of torch.optim's single-tensor implementations. lr:
the learning rate; weight_decay: the factor of params in the gradient; maximize: go uphill. Options are finite numbers,
at least 0. Only clip_grad_norm returns something. Raises TypeError or ValueError naming the array, such as params[2].
"""

from math import inf, isfinite

from fastnn.descriptors import flag, is_int, number
from fastnn.kernels import optim as kernels
from fastnn.ops._arrays import empty, lists_alike

__all__ = ["adam_step", "adamw_step", "clip_grad_norm", "clip_grad_value", "rmsprop_step", "sgd_step"]


def numbers(op, **options):
    """Check that all options are finite numbers, at least 0, and return them as floats."""
    for name, value in options.items():
        options[name] = value = value if type(value) is float else number(value, op, name)
        if not 0 <= value < inf:
            raise ValueError(f"{op}: {name} is {value}, expected a finite number, at least 0")
    return options.values()


def flags(op, **options):
    """Check that all options are True or False, and return them."""
    return [flag(value, op, name) for name, value in options.items()]


def below_one(op, name, value):
    """A decay rate, in [0, 1)."""
    value = number(value, op, name)
    if not 0 <= value < 1:
        raise ValueError(f"{op}: {name} is {value}, expected 0 <= {name} < 1")
    return value


def decay_rates(op, betas):
    """Check Adam's pair of decay rates, in [0, 1), and return it as a tuple of floats."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"{op}: betas must be a pair of numbers, got {betas!r}")
    return below_one(op, "betas[0]", betas[0]), below_one(op, "betas[1]", betas[1])


def nothing():
    """The step of no parameters."""


def sgd_step(
    params, grads, momentum_buffers=None, *, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
    maximize=False, first=False,
):  # fmt: skip
    """Stochastic gradient descent: g += weight_decay p; buf = momentum buf + (1 - dampening) g; p -= lr buf, or
    p -= lr (g + momentum buf) with nesterov (Sutskever et al. 2013); without momentum p -= lr g.

    momentum_buffers: needed if momentum is not 0. first: they hold nothing yet, and become g. nesterov needs momentum,
    and no dampening.
    """
    lists = params, grads, momentum_buffers
    ready_sgd(lists, lr, momentum, dampening, weight_decay, nesterov, maximize, first)()


def ready_sgd(lists, lr, momentum, dampening, weight_decay, nesterov, maximize, first):
    """sgd_step, checked and ready to be called without arguments: that allocates nothing, and cannot fail."""
    op = "sgd_step"
    lr, momentum, weight_decay = numbers(op, lr=lr, momentum=momentum, weight_decay=weight_decay)
    dampening = number(dampening, op, "dampening")
    nesterov, maximize, first = flags(op, nesterov=nesterov, maximize=maximize, first=first)
    if nesterov and (momentum == 0 or dampening != 0):
        raise ValueError(
            f"{op}: nesterov with momentum {momentum} and dampening {dampening}, "
            "expected a momentum above 0 and no dampening"
        )
    if momentum != 0 and lists[2] is None:
        raise ValueError(f"{op}: momentum_buffers is None, expected a list of arrays for a momentum of {momentum}")
    lists = lists_alike(op, ("params", "grads", "momentum_buffers"), lists, 2, 1)
    if not lists[0]:
        return nothing
    return kernels.sgd(lists, lr, momentum, dampening, weight_decay, nesterov, maximize, first)


def rmsprop_step(
    params, grads, square_avgs, grad_avgs=None, momentum_buffers=None, *, lr=1e-2, alpha=0.99, eps=1e-8,
    weight_decay=0.0, momentum=0.0, maximize=False,
):  # fmt: skip
    """RMSprop (Hinton 2012, lecture 6): g += weight_decay p; v = alpha v + (1 - alpha) g²; p -= lr g / (√v + eps).

    square_avgs: v. grad_avgs: for the centred variant (Graves 2013), m += (1 - alpha) (g - m), v - m² in place of v.
    momentum_buffers: needed if momentum is not 0: buf = momentum buf + g / (√v + eps), p -= lr buf.
    """
    lists = params, grads, square_avgs, grad_avgs, momentum_buffers
    ready_rmsprop(lists, lr, alpha, eps, weight_decay, momentum, maximize)()


def ready_rmsprop(lists, lr, alpha, eps, weight_decay, momentum, maximize):
    """rmsprop_step, as ready_sgd."""
    op = "rmsprop_step"
    lr, alpha, eps, weight_decay, momentum = numbers(
        op, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum
    )
    (maximize,) = flags(op, maximize=maximize)
    if momentum != 0 and lists[4] is None:
        raise ValueError(f"{op}: momentum_buffers is None, expected a list of arrays for a momentum of {momentum}")
    names = ("params", "grads", "square_avgs", "grad_avgs", "momentum_buffers")
    lists = lists_alike(op, names, lists, 3, 1)
    if not lists[0]:
        return nothing
    return kernels.rmsprop(lists, lr, alpha, eps, weight_decay, momentum, maximize)


def ready_adam(op, decoupled, lists, step, lr, betas, eps, weight_decay, maximize):
    """adam_step, or decoupled adamw_step, as ready_sgd."""
    if not is_int(step):
        raise TypeError(f"{op}: step must be an integer, got {step!r}")
    if not 1 <= step < 2**63:
        raise ValueError(f"{op}: step is {step}, expected at least 1 and below 2**63")
    beta1, beta2 = decay_rates(op, betas)
    lr, eps, weight_decay = numbers(op, lr=lr, eps=eps, weight_decay=weight_decay)
    (maximize,) = flags(op, maximize=maximize)
    names = ("params", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs")
    lists = lists_alike(op, names, lists, 4, 1)
    if not lists[0]:
        return nothing
    return kernels.adam(lists, step, lr, beta1, beta2, eps, weight_decay, decoupled, maximize)


def adam_step(
    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs=None, *, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8,
    weight_decay=0.0, maximize=False,
):  # fmt: skip
    """Adam (Kingma & Ba 2015): g += weight_decay p; m += (1 - β₁)(g - m); v = β₂ v + (1 - β₂) g²;
    p -= lr / (1 - β₁ᵗ) m / (√v / √(1 - β₂ᵗ) + eps).

    exp_avgs, exp_avg_sqs: m and v. max_exp_avg_sqs: for AMSGrad (Reddi et al. 2018), the maximum of all v so far, which
    takes the place of v. step: t, 1 for the first. betas: in [0, 1).
    """
    lists = params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs
    ready_adam("adam_step", False, lists, step, lr, betas, eps, weight_decay, maximize)()


def adamw_step(
    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs=None, *, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8,
    weight_decay=1e-2, maximize=False,
):  # fmt: skip
    """AdamW (Loshchilov & Hutter 2019): Adam with p *= 1 - lr weight_decay in place of the decay in the gradient.
    Arguments as of adam_step."""
    lists = params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs
    ready_adam("adamw_step", True, lists, step, lr, betas, eps, weight_decay, maximize)()


def clip_grad_norm(grads, max_norm, norm_type=2.0, error_if_nonfinite=False):
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)), norm being that of all their elements together (Pascanu
    et al. 2013), and return the norm, 0-d.

    norm_type: 2, or inf for the largest magnitude. The sum is in double precision, in an order that the problem alone
    determines. error_if_nonfinite: ValueError if the norm is NaN or infinite, before anything is changed; else the
    scale is then NaN or 0.
    """
    op = "clip_grad_norm"
    max_norm, norm_type = number(max_norm, op, "max_norm"), number(norm_type, op, "norm_type")
    if norm_type not in (2, inf):
        raise ValueError(f"{op}: norm_type is {norm_type}, expected 2 or inf")
    if not max_norm >= 0:
        raise ValueError(f"{op}: max_norm is {max_norm}, expected a number, at least 0")
    (error_if_nonfinite,) = flags(op, error_if_nonfinite=error_if_nonfinite)
    (grads,) = lists_alike(op, ("grads",), (grads,), 1)
    if not grads:
        raise ValueError(f"{op}: grads is empty, expected at least one array")
    norm = empty((), grads[0])
    total = kernels.norm(grads, norm_type == inf, norm)
    if error_if_nonfinite and not isfinite(total):
        raise ValueError(f"{op}: the norm of grads is {total}, expected a finite one")
    factor = max_norm / (total + 1e-6)
    if not factor >= 1:
        kernels.scale(grads, factor)()
    return norm


def clip_grad_value(grads, clip_value):
    """Clip every element of the gradients to [-clip_value, clip_value]; NaN stays."""
    op = "clip_grad_value"
    (clip_value,) = numbers(op, clip_value=clip_value)
    (grads,) = lists_alike(op, ("grads",), (grads,), 1)
    if grads:
        kernels.clamp(grads, clip_value)()
