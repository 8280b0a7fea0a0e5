"""What every backward function checks before it begins, in one place."""

import inspect
from functools import wraps


def checked(function):
    """<op>_backward that says what is wrong with a missing context or with `needs`, where Python would only say that
    None has no attribute, or nothing. Costs a call of a Python function, some 30 ns."""
    op = function.__name__.removesuffix("_backward")
    needs_of = inspect.signature(function).parameters.get("needs")

    def refuse(ctx, needs):
        if ctx is None:
            raise TypeError(
                f"{op}: ctx is None, the forward pass ran with keep=False; the backward pass needs keep=True"
            )
        if not isinstance(needs, tuple | list):
            raise TypeError(f"{op}: needs must be a tuple of {len(default)} bools, got {needs!r}")
        if len(needs) != len(default):
            raise ValueError(f"{op}: needs must have {len(default)} elements, one for each gradient, got {needs!r}")

    if needs_of is None:

        @wraps(function)
        def call(dy, ctx):
            if ctx is None:
                refuse(ctx, None)
            return function(dy, ctx)

    else:
        default = needs_of.default

        @wraps(function)
        def call(dy, ctx, needs=default):
            if ctx is None or needs is not default:
                refuse(ctx, needs)
            return function(dy, ctx, needs)

    return call
