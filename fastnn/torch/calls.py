"""Calls of `fastnn.ops` with PyTorch's tensors: which can be made, on the same memory, and through autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd import forward_ad

from fastnn import threads
from fastnn._tape import Prepared
from fastnn.autograd import Tensor

KINDS = torch.Tensor, torch.nn.Parameter
DTYPES = torch.float32, torch.float64


# ---- which calls ----


def watched():
    """Does something else than autograd follow the operations of this thread, or change what they do? A compiler or
    tracer, a transformation such as vmap, dual numbers, a mode, autocast."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or forward_ad._current_level >= 0
        or torch.is_autocast_enabled("cpu")
    )


def plain(x):
    """Is x a tensor with memory of its own, on this CPU, of float32 or float64?"""
    return type(x) in KINDS and x.dtype in DTYPES and x.is_cpu and x.layout is torch.strided


def takes(x, *parameters):
    """Can fastnn be called with these tensors, None among parameters for those that are absent? Not if x has PyTorch's
    other order of axes, channels last, which its result would have too; nor for an empty x."""
    if not plain(x) or not x.numel():
        return False
    if not x.is_contiguous() and x.ndim in LAST and x.is_contiguous(memory_format=LAST[x.ndim]):
        return False
    for p in parameters:
        if p is None:
            continue
        if not (p.dtype is x.dtype and plain(p) and p.is_contiguous()):
            return False
    return True


LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


# ---- the number of threads ----


class Followed:
    """PyTorch's number of threads when a call looked last."""

    threads = 0


def follow_threads():
    """fastnn uses as many threads as PyTorch does, once that number changes."""
    n = torch.get_num_threads()
    if n != Followed.threads:
        Followed.threads = n
        threads.set_num_threads(n)


# ---- calls ----


def array(tensor):
    """An ndarray on a tensor's memory; None of None."""
    return None if tensor is None else tensor.numpy(force=True)


def tensors(results):
    """Tensors on the memory of an array, or of a tuple of them; None of None."""
    if type(results) is tuple:
        return tuple(map(tensors, results))
    return None if results is None else torch.from_numpy(results)


class Operator(NamedTuple):
    """A function of tensors and options, differentiable in all tensors."""

    forward: Callable
    """(*arrays, *options, keep=) -> (result or tuple of results, context), as in fastnn.ops"""
    backward: Callable
    """(dy or tuple, context, needs) -> gradients at the arrays"""
    torch: Callable
    """(*tensors, *options) -> the same results of PyTorch, without side effects"""


def call(operator, options, *operands):
    """The operator's result; autograd learns of it if it records."""
    follow_threads()
    if records(*operands):
        return Operation.apply(operator, options, *operands)
    return tensors(operator.forward(*map(array, operands), *options, keep=False)[0])


def records(*operands):
    """Would autograd record an operation with these tensors?"""
    if torch.is_grad_enabled():
        for x in operands:
            if x is not None and x.requires_grad:
                return True
    return False


class Place(int):
    """Where among a node's saved tensors the memory of an array is."""


class Operation(torch.autograd.Function):
    """A call of an Operator in autograd's graph. Arrays of the context are kept as saved tensors, so that autograd sees
    changes in place, frees them after the backward pass, and lets its hooks have them."""

    @staticmethod
    def forward(ctx, operator, options, *operands):
        arrays = [*map(array, operands)]
        results, context = operator.forward(*arrays, *options, keep=True)
        outputs = tensors(results)
        several = type(outputs) is tuple
        known = [*operands, *(outputs if several else (outputs,))]
        arrays += results if several else (results,)
        saved = []

        def place(value):
            if not isinstance(value, np.ndarray):
                return value
            at = next((i for i, a in enumerate(arrays) if a is value), None)
            saved.append(torch.from_numpy(value) if at is None else known[at])
            return Place(len(saved) - 1)

        ctx.operator, ctx.options = operator, options
        ctx.context = type(context), [place(value) for value in context]
        # For derivatives of gradients PyTorch needs all operands. A parameter that the context has not may change.
        ctx.operands = []
        for x in operands:
            at = next((i for i, s in enumerate(saved) if s is x), None)
            if x is not None and at is None and not x.is_leaf:
                saved.append(x)
                at = len(saved) - 1
            ctx.operands.append(x if at is None else Place(at))
        ctx.save_for_backward(*saved)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    def backward(ctx, *dys):
        saved, needs = ctx.saved_tensors, ctx.needs_input_grad[2:]
        if all(dy is None for dy in dys):
            return (None,) * (2 + len(needs))
        if torch.is_grad_enabled():
            operands = [saved[x] if type(x) is Place else x for x in ctx.operands]
            return None, None, *differentiable(ctx.operator, ctx.options, operands, dys, needs)
        follow_threads()
        kind, fields = ctx.context
        context = kind(*[array(saved[value]) if type(value) is Place else value for value in fields])
        dy = array(dys[0]) if len(dys) == 1 else tuple(map(array, dys))
        return None, None, *tensors(tuple(ctx.operator.backward(dy, context, needs)))


def differentiable(operator, options, operands, dys, needs):
    """Gradients that have gradients themselves: PyTorch's."""
    # Views, so that no gradient is followed from one operand to another that it was made of.
    views = [None if x is None else x.view_as(x) for x in operands]
    results = operator.torch(*views, *options)
    results = results if isinstance(results, tuple) else (results,)
    given = [i for i, dy in enumerate(dys) if dy is not None]
    needed = [x for x, need in zip(views, needs, strict=True) if need]
    gradients = iter(
        torch.autograd.grad(
            [results[i] for i in given], needed, [dys[i] for i in given], create_graph=True, allow_unused=True
        )
    )
    return [next(gradients) if need else None for need in needs]


class Packed:
    """make(array) of a weight, such as packed filters, kept until the weight has other memory or other bytes. A
    tensor's version does not count what is written through `data`, through NumPy or by another process, so that the
    bytes are compared, by a fingerprint. Safe to share between threads."""

    def __init__(self, make):
        self.make, self.prepared = make, Prepared(make)
        self.held: tuple[Any, Tensor] | None = None
        """What tells the weight's memory from others, and a Tensor on it, which keeps it from being used again."""

    def of(self, weight):
        """The form of a weight as it is now."""
        key = weight.data_ptr(), weight.shape, weight.dtype
        held = self.held
        if held is None or held[0] != key:
            held = self.held = key, Tensor(array(weight))
        return self.prepared.of(held[1])

    def __reduce__(self):  # copies begin with nothing
        return Packed, (self.make,)
