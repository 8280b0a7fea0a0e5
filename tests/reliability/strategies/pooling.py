"""Pooling with windows, adaptive pooling, norms of windows, un-pooling, sub-sampling."""

from functools import cache

from hypothesis import strategies as st

from fastnn.registry import Case
from strategies.common import as_pair, batch, digits, one_or_pair, picks, small, sometimes, yes_or_no

MORE = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
three, five = st.integers(1, 3), st.integers(1, 5)
outputs = st.one_of(st.none(), st.integers(1, 12))
WIDER = (*MORE, 13, 14, 15, 16, 17, 31, 32, 33, 65)


@cache
def axis_option(axes, values):
    """An option of images, or of rows: a number, or a tuple or list of one."""
    if axes == 2:
        return one_or_pair(values)
    return st.one_of(values, st.tuples(values), st.lists(values, min_size=1, max_size=1))


@cache
def stride_option(axes):
    return st.one_of(st.none(), axis_option(axes, five))


def per_axis(value, axes):
    return as_pair(value) if axes == 2 else tuple(value) if isinstance(value, tuple | list) else (value,)


@st.composite
def window_cases(draw, axes, *, dilated=False, averaged=False, norm=False):
    """Padding of at most half the kernel, and no window that steps over the whole image, as pooling demands."""
    kernel_size = draw(axis_option(axes, small))
    kernel = per_axis(kernel_size, axes)
    options = {"kernel_size": kernel_size, **sometimes(draw, ceil_mode=yes_or_no)}
    padding = [0] * axes
    if not norm:
        padding = draw(digits(*[k // 2 + 1 for k in kernel]))
        options["padding"] = padding[0] if axes == 1 else tuple(padding)
    dilation = [1] * axes
    if dilated:
        options |= sometimes(draw, dilation=axis_option(axes, three), return_indices=yes_or_no)
        dilation = per_axis(options.get("dilation", 1), axes)
    options |= sometimes(draw, stride=stride_option(axes))
    if averaged:
        options |= sometimes(draw, count_include_pad=yes_or_no)
        if axes == 2:
            options |= sometimes(draw, divisor_override=st.sampled_from((1, 3, 4, -8)))
    if norm:
        options["norm_type"] = draw(st.sampled_from((2, 1, 3, 4, 2.5, 0.5, -1, float("inf"), float("-inf"))))
    more = draw(picks((1, 2, 3, 4), *[MORE] * (axes - 1), WIDER))
    sizes = [
        max(d, d * (k - 1) + 1 - 2 * p) + n for d, k, p, n in zip(dilation, kernel, padding, more[1:], strict=True)
    ]
    return Case({"x": (draw(batch), more[0], *sizes)}, options)


@st.composite
def adaptive_cases(draw, axes, indices):
    channels, *sizes = draw(picks((1, 2, 3, 4), *[MORE[1:]] * (axes - 1), WIDER[1:]))
    options = {"output_size": draw(axis_option(axes, outputs))}
    if indices:
        options |= sometimes(draw, return_indices=yes_or_no)
    return Case({"x": (draw(batch), channels, *sizes)}, options)


@st.composite
def unpool_cases(draw, axes):
    """Images that have a place for every pixel."""
    channels, *sizes = draw(picks((1, 2, 3, 4), *[range(1, 6)] * (axes - 1), WIDER[1:13]))
    kernel = draw(digits(*[4] * axes))
    stride = draw(digits(*[3] * axes))
    kernel, stride = [k + 1 for k in kernel], [min(t, k) + 1 for t, k in zip(stride, kernel, strict=True)]
    padding = draw(digits(*[k // 2 + 1 for k in kernel]))
    size = [(n - 1) * t + k - 2 * p for n, t, k, p in zip(sizes, stride, kernel, padding, strict=True)]
    padding = [p if outputs >= n else 0 for p, outputs, n in zip(padding, size, sizes, strict=True)]
    size = [(n - 1) * t + k - 2 * p for n, t, k, p in zip(sizes, stride, kernel, padding, strict=True)]
    options = {"kernel_size": kernel, "stride": tuple(stride), "padding": padding}
    explicit, *more = draw(digits(3, *stride))
    x = (draw(batch), channels, *sizes)
    if explicit:
        size = [n + m for n, m in zip(size, more, strict=True)]
        options["output_size"] = size if explicit == 1 else (*x[:2], *size)
    return Case({"x": x, "indices": x}, options)


@st.composite
def subsample_cases(draw):
    block = draw(one_or_pair(small))
    channels, *more = draw(picks((1, 2, 3, 4), MORE, WIDER))
    sizes = [b + n for b, n in zip(as_pair(block), more, strict=True)]
    options = {"block": block, **sometimes(draw, position=st.sampled_from(("upper_left", "middle")))}
    return Case({"x": (draw(batch), channels, *sizes)}, options)


STRATEGIES = {
    f"{name}{axes}d": strategy
    for axes in (1, 2)
    for name, strategy in {
        "max_pool": window_cases(axes, dilated=True),
        "min_pool": window_cases(axes, dilated=True),
        "avg_pool": window_cases(axes, averaged=True),
        "lp_pool": window_cases(axes, norm=True),
        "adaptive_max_pool": adaptive_cases(axes, True),
        "adaptive_avg_pool": adaptive_cases(axes, False),
        "max_unpool": unpool_cases(axes),
    }.items()
} | {"subsample2d": subsample_cases()}
