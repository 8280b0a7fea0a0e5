"""Convolutions in one and two dimensions, and transposed ones."""

from hypothesis import strategies as st

from fastnn.registry import Case
from strategies.common import as_pair, batch, digits, four_sides, one_or_pair, picks

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 33)
GROUPS = (1, 1, 1, 2, 3)

zero_to_three = st.integers(0, 3)
paddings = st.one_of(one_or_pair(zero_to_three), digits(4, 4, 4, 4).map(tuple))
strides = one_or_pair(st.integers(1, 3))


@st.composite
def conv2d_cases(draw):
    """Images at least as large as the dilated kernel needs. Half of them are what some algorithms are for: 3 x 3
    and 5 x 5 kernels without stride, single pixels, one channel a group."""
    kind, groups, c, k, r, s = draw(
        picks(
            ("any",) * 4 + ("3 x 3", "5 x 5", "1 x 1", "depthwise"),
            GROUPS,
            CHANNELS,
            CHANNELS,
            range(1, 5),
            range(1, 5),
        )
    )
    channels, filters = groups * c, groups * k
    stride = dilation = 1
    if kind in ("3 x 3", "5 x 5"):
        r = s = int(kind[0])
    else:
        stride, dilation = draw(strides), draw(strides)
    if kind == "1 x 1":
        r, s = 1, 1
    elif kind == "depthwise":
        groups, filters = channels, channels * draw(st.sampled_from((1, 1, 2)))
    padding = draw(st.one_of(paddings, paddings, st.sampled_from(("valid", "same"))))
    if padding == "same":
        stride = 1
    (dy, dx) = as_pair(dilation)
    top, bottom, left, right = (0, 0, 0, 0) if isinstance(padding, str) else four_sides(padding)
    down, across, bias = draw(picks(range(7), (0, 1, 2, 3, 4, 5, 12, 15, 16, 17, 31), (True, False)))
    # The reference of a wide layer on a wide image would take longer than all else.
    across = across if channels * filters < 600 else min(across, 3)
    height = max(0 if padding == "same" else 1, dy * (r - 1) + 1 - top - bottom) + down
    width = max(0 if padding == "same" else 1, dx * (s - 1) + 1 - left - right) + across
    x, w = (draw(batch), channels, height, width), (filters, channels // groups, r, s)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return Case({"x": x, "w": w, "b": (filters,) if bias else None}, options)


@st.composite
def conv1d_cases(draw):
    groups, c, k, depthwise, r, dilation, stride = draw(
        picks(GROUPS, CHANNELS, CHANNELS, (False, False, False, True), range(1, 7), range(1, 5), range(1, 5))
    )
    channels, filters = groups * c, groups * k
    if depthwise:
        groups = filters = channels
    padding = draw(st.one_of(st.integers(0, 4), digits(5, 5).map(tuple), st.sampled_from(("valid", "same"))))
    if padding == "same":
        stride = 1
    outside = 0 if isinstance(padding, str) else sum(as_pair(padding))
    extra, bias = draw(picks((0, 1, 2, 3, 4, 5, 8, 12, 15, 16, 17, 31, 32, 33, 65), (True, False)))
    length = max(1, dilation * (r - 1) + 1 - outside) + extra
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    shapes = {"x": (draw(batch), channels, length), "w": (filters, channels // groups, r)}
    return Case({**shapes, "b": (filters,) if bias else None}, options)


@st.composite
def conv_transpose2d_cases(draw):
    """Images large enough that padding leaves something; output_padding below stride or dilation."""
    groups, c, per_group, kind, r, s = draw(
        picks(GROUPS, CHANNELS, CHANNELS, ("any",) * 4 + ("3 x 3", "5 x 5", "depthwise"), range(1, 5), range(1, 5))
    )
    channels = groups * c
    stride = dilation = 1
    if kind in ("3 x 3", "5 x 5"):
        r = s = int(kind[0])
    else:
        stride, dilation = draw(strides), draw(strides)
    if kind == "depthwise":
        groups, per_group = channels, 1
    padding = draw(paddings)
    (ty, tx), (dy, dx) = as_pair(stride), as_pair(dilation)
    extra = tuple(draw(digits(max(ty, dy), max(tx, dx))))
    top, bottom, left, right = four_sides(padding)
    down, across, bias = draw(picks(range(5), (0, 1, 2, 3, 4, 7, 8, 13, 15, 16, 17), (True, False)))
    across = across if channels * per_group * groups < 600 else min(across, 3)
    height = max(1, -((dy * (r - 1) + extra[0] - top - bottom) // ty) + 1) + down
    width = max(1, -((dx * (s - 1) + extra[1] - left - right) // tx) + 1) + across
    options = {"stride": stride, "padding": padding, "output_padding": extra, "groups": groups, "dilation": dilation}
    shapes = {"x": (draw(batch), channels, height, width), "w": (channels, per_group, r, s)}
    return Case({**shapes, "b": (per_group * groups,) if bias else None}, options)


STRATEGIES = {"conv2d": conv2d_cases(), "conv1d": conv1d_cases(), "conv_transpose2d": conv_transpose2d_cases()}
