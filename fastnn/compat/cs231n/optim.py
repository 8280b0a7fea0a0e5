"""Update rules (w, dw, config) -> (next_w, config). config: a dictionary of options and state, or None; what it
lacks is put into it. Only sgd changes w itself, which is its next_w."""

import numpy as np

from fastnn import ops
from fastnn.compat.cs231n._calls import contiguous, promoted
from fastnn.ops._arrays import array_of_shape

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]


def completed(op, config, w, options, *states):
    """config with defaults for the options, and zeros for the states, that it lacks."""
    config = {} if config is None else config
    if not isinstance(config, dict):
        raise TypeError(f"{op}: config must be a dictionary or None, got {type(config).__name__}")
    for name, value in options.items():
        config.setdefault(name, value)
    for name in states:
        if name not in config:
            config[name] = np.zeros_like(w)
    return config


def copies(op, w, dw, **states):
    """(w, dw, *states) of one dtype and of w's shape; all but dw are copies."""
    arrays = dict(zip(("w", "dw", *states), promoted(op, w=w, dw=dw, **states), strict=True))
    for name, a in arrays.items():
        array_of_shape(a, op, name, w.shape)
    return [a if name == "dw" else contiguous(a) for name, a in arrays.items()]


def sgd(w, dw, config=None):
    """w -= learning_rate dw, in place. Options: learning_rate 1e-2."""
    config = completed("sgd", config, w, {"learning_rate": 1e-2})
    w -= config["learning_rate"] * dw
    return w, config


def sgd_momentum(w, dw, config=None):
    """velocity = momentum velocity - learning_rate dw; next_w = w + velocity. Options: learning_rate 1e-2, momentum
    0.9; state: velocity."""
    config = completed("sgd_momentum", config, w, {"learning_rate": 1e-2, "momentum": 0.9}, "velocity")
    config["velocity"] = config["momentum"] * config["velocity"] - config["learning_rate"] * dw
    return w + config["velocity"], config


def rmsprop(w, dw, config=None):
    """cache = decay_rate cache + (1 - decay_rate) dw²; next_w = w - learning_rate dw / (√cache + epsilon). Options:
    learning_rate 1e-2, decay_rate 0.99, epsilon 1e-8; state: cache."""
    options = {"learning_rate": 1e-2, "decay_rate": 0.99, "epsilon": 1e-8}
    config = completed("rmsprop", config, w, options, "cache")
    w, dw, cache = copies("rmsprop", w, dw, cache=config["cache"])
    lr, alpha, eps = (config[name] for name in options)
    ops.rmsprop_step([w], [dw], [cache], lr=lr, alpha=alpha, eps=eps)
    config["cache"] = cache
    return w, config


def adam(w, dw, config=None):
    """t += 1; m = beta1 m + (1 - beta1) dw; v = beta2 v + (1 - beta2) dw²;
    next_w = w - learning_rate m / (1 - beta1ᵗ) / (√(v / (1 - beta2ᵗ)) + epsilon). Options: learning_rate 1e-3,
    beta1 0.9, beta2 0.999, epsilon 1e-8; state: m, v, t."""
    options = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    config = completed("adam", config, w, {**options, "t": 0}, "m", "v")
    w, dw, m, v = copies("adam", w, dw, m=config["m"], v=config["v"])
    lr, *betas, eps = (config[name] for name in options)
    t = config["t"] + 1
    ops.adam_step([w], [dw], [m], [v], step=t, lr=lr, betas=tuple(betas), eps=eps)
    config.update(m=m, v=v, t=t)
    return w, config
