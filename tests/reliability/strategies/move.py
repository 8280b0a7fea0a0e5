"""Up-sampling, padding, concatenation."""

from hypothesis import strategies as st

from fastnn.registry import Case
from strategies.common import batch, one_or_pair, picks, shapes, sometimes

SHORT = (1, 2, 3, 4, 5, 7)
WIDE = (*SHORT, 8, 9, 15, 16, 17, 31, 33, 65)
FACTORS = (0.32, 0.5, 1.0, 1.6, 2, 2.0, 2.5, 3.2, 4)


@st.composite
def resized_cases(draw, axes, aligned):
    """A size or a factor for each axis, or one for all; factors that leave something."""
    channels, kind, *sizes = draw(picks((1, 2, 3), ("size", "sizes", "factor", "factors"), *[SHORT] * (axes - 1), WIDE))
    if kind.startswith("size"):
        size = draw(picks(*[WIDE] * axes))
        options = {"size": size[0] if kind == "size" else size}
    else:
        factor = [max(f, 1) if n < 4 else f for f, n in zip(draw(picks(*[FACTORS] * axes)), sizes, strict=True)]
        options = {"scale_factor": max(factor) if kind == "factor" else tuple(factor)}
    if aligned:
        options |= sometimes(draw, align_corners=st.booleans())
    return Case({"x": (draw(batch), channels, *sizes)}, options)


@st.composite
def zeros_cases(draw):
    channels, *sizes = draw(picks((1, 2, 3), SHORT, WIDE))
    return Case({"x": (draw(batch), channels, *sizes)}, {"stride": draw(one_or_pair(st.integers(1, 5)))})


def modes_of(shape):
    return ("constant", "reflect", "replicate", "circular") if shape else ("constant",)


@st.composite
def pad_cases(draw):
    """In the modes that repeat pixels one or two axes are padded, by no more than the mode can."""
    shape = draw(shapes(0, 4))
    mode = draw(st.sampled_from(modes_of(shape)))
    axes = draw(st.integers(0, len(shape)) if mode == "constant" else st.integers(1, min(2, len(shape))))
    pad = []
    for n in reversed(shape[len(shape) - axes :]):
        low, high = {
            "constant": (-min(n, 3), 4), "reflect": (0, max(min(n, 6) - 1, 0)), "circular": (0, min(n, 5)),
            "replicate": (0, 5 if n else 0),
        }[mode]  # fmt: skip
        before, after = draw(picks(range(low, high + 1), range(low, high + 1)))
        pad += [before, max(after, -n - before)]
    options = {"pad": tuple(pad) if draw(st.booleans()) else pad}
    if mode == "constant":
        return Case({"x": shape}, options | sometimes(draw, value=st.sampled_from((-1.5, 2.0, 3))))
    return Case({"x": shape}, {**options, "mode": mode})


@st.composite
def concat_cases(draw):
    shape = draw(shapes(1, 4))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    at = axis % len(shape)
    lengths = [shape[at], *draw(st.lists(st.sampled_from((1, 0, 2, 3, 5, 8, 16, 17, 33)), max_size=4))]
    return Case({"arrays": [(*shape[:at], n, *shape[at + 1 :]) for n in lengths]}, {"axis": axis})


STRATEGIES = {
    "upsample_nearest1d": resized_cases(1, False),
    "upsample_nearest2d": resized_cases(2, False),
    "upsample_linear1d": resized_cases(1, True),
    "upsample_bilinear2d": resized_cases(2, True),
    "upsample_zeros2d": zeros_cases(),
    "pad": pad_cases(),
    "concat": concat_cases(),
}
