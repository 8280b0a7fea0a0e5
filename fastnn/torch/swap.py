"""Modules of PyTorch become fastnn's, and back."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from fastnn.descriptors import flag
from fastnn.torch import recurrent  # noqa: F401  its layers enter STANDS
from fastnn.torch.calls import follow_threads
from fastnn.torch.layers import STANDS

__all__ = ["accelerate", "restore"]

BACK = {kind: layer for layer, kind in STANDS.items()}


def accelerate(model, inplace=False):
    """The same PyTorch model, computing on this CPU with fastnn where that is faster:

        model = fastnn.torch.accelerate(model)

    inplace: False for a copy of the modules that shares all parameters and buffers with `model`, so that an optimiser
    of before goes on working and each sees what the other learns; True to change the modules of `model` itself, and
    return it. Hooks, train and eval mode, names, state_dict and isinstance(module, torch.nn.Conv2d) are as before, and
    models can be copied, pickled and saved; who loads a whole pickled model needs fastnn too, so `restore` it first.

    Layers of torch.nn are replaced, not those of classes derived from them. Input and output are PyTorch's tensors on
    the same memory. Where fastnn has no kernel for a call, PyTorch's own runs: another dtype, device or memory format,
    autocast, torch.compile, jit, vmap, derivatives of gradients.

    fastnn's number of threads becomes torch.get_num_threads(), and follows it when it changes.
    TypeError if model is no torch.nn.Module.
    """
    return swapped(model, inplace, "accelerate", STANDS)


def restore(model, inplace=False):
    """The model before `accelerate`: its layers are PyTorch's again. inplace as there."""
    return swapped(model, inplace, "restore", BACK)


def swapped(model, inplace, name, classes):
    """The model, or a copy that shares tensors, with classes exchanged."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name}: model must be a torch.nn.Module, got {type(model).__name__}")
    if not flag(inplace, name, "inplace"):
        model = copied(model)
    for module in model.modules():
        if type(module) in classes:
            vars(module).pop("packed", None)
            module.__class__ = classes[type(module)]
    follow_threads()
    return model


def copied(model):
    """A copy of a model's modules that shares its tensors, and hooks unless they are methods of its modules."""
    memo = {}
    for module in model.modules():
        for value in vars(module).values():
            for each in value.values() if isinstance(value, dict) else (value,):
                if isinstance(each, torch.Tensor) or (callable(each) and not of_module(each)):
                    memo[id(each)] = each
    return deepcopy(model, memo)


def of_module(function):
    """Is it a module, or a method of one?"""
    return isinstance(function, nn.Module) or isinstance(getattr(function, "__self__", None), nn.Module)
