"""Batch, layer, group, instance, root-mean-square and response norm; whitening."""

from math import prod

from hypothesis import strategies as st

from fastnn.registry import Case
from fastnn.specs import norm, row_norm, whiten
from strategies.common import batch, picks, sometimes, yes_or_no

epsilons = st.sampled_from((1e-5, 1e-2, 0.5, 1e-3))
momenta = st.sampled_from((0.1, 0.0, 0.3, 1.0))
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 65)
PIXELS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65, 129)


@st.composite
def batch_norm_cases(draw):
    """Channels of several values, unless the statistics are given; there may be no sample."""
    n, c, axes, pixels, more, training, affine, running, residual = draw(
        picks(
            (2, 3, 4, 7, 17, 33, 1, 0),
            CHANNELS,
            (0, 1, 2, 3),
            PIXELS,
            (1, 2, 3),
            (True, True, False),
            *[(True, False)] * 3,
        )
    )
    shape = n, c, *(pixels, more, 2)[:axes]
    if training and prod(shape) == c:
        shape = 2, *shape[1:]
    options = sometimes(draw, relu=yes_or_no, momentum=momenta, eps=epsilons)
    affine = affine or options.get("relu", False)  # which the spec keeps away from the bend by the weights
    running = running or not training or options.get("relu", False)
    return norm.case(shape, affine=affine, running=running, residual=residual, training=training, **options)


@st.composite
def layer_norm_cases(draw, make):
    n, d, rows, columns, affine = draw(
        picks((2, 1, 3, 4, 0, 17), (*PIXELS[1:], 70, 300), (1, 2, 3), (1, 2, 3), (True, False))
    )
    axes = draw(st.integers(1, 3))
    return make((n, rows, columns, d)[draw(st.integers(0, 4 - axes)) :], axes, affine, **sometimes(draw, eps=epsilons))


@st.composite
def group_norm_cases(draw):
    n, groups, c, axes, pixels, more, affine = draw(
        picks((2, 1, 3, 0, 5), (1, 2, 3, 4), (1, 2, 3, 4, 9), (0, 1, 2, 3), PIXELS, (1, 2, 3), (True, False))
    )
    shape = [n, groups * c, *(pixels, more, 2)[:axes]]
    if prod(shape) == groups:  # of a single sample
        shape[1] *= 2
    return row_norm.group(tuple(shape), groups, affine, **sometimes(draw, eps=epsilons))


@st.composite
def instance_norm_cases(draw):
    n, c, axes, pixels, more, affine, running, own = draw(
        picks(
            (2, 1, 3, 0, 5),
            CHANNELS,
            (1, 2, 3),
            PIXELS[1:],
            (1, 2, 3),
            (True, False),
            (True, False),
            (True, True, False),
        )
    )
    options = sometimes(draw, momentum=momenta, eps=epsilons)
    shape = n, c, *(pixels, more, 2)[:axes]
    return row_norm.instance(shape, affine, running or not own, use_input_stats=own, **options)


@st.composite
def response_norm_cases(draw):
    c, axes, pixels, more, size = draw(picks(CHANNELS, (1, 2, 3), PIXELS, (1, 2, 3), (5, 1, 2, 3, 4, 7, 70)))
    options = sometimes(
        draw, alpha=st.sampled_from((1e-4, 0.0, 0.5, 1.0, 2.0)), beta=st.sampled_from((0.75, 0.0, 0.5, 1.0, 1.3, -0.5)),
        k=st.sampled_from((1.0, 0.5, 2.0)),
    )  # fmt: skip
    return Case({"x": (draw(batch), c, *(pixels, more, 2)[:axes])}, {"size": size, **options})


@st.composite
def whiten_cases(draw):
    """More samples than features, or eps makes up for what is missing."""
    n, d, running, training, method = draw(
        picks((9, 2, 3, 5, 20, 33, 1, 0), (1, 2, 3, 4, 5, 6), (True, False), (True, True, False), ("zca", "pca"))
    )
    options = sometimes(draw, momentum=momenta, eps=epsilons)
    if training:
        n = n if n != 1 else 2
        if n <= 2 * d:
            options["eps"] = 1.0
    return whiten.case(n, d, running or not training, training=training, method=method, **options)


STRATEGIES = {
    "batch_norm": batch_norm_cases(),
    "layer_norm": layer_norm_cases(row_norm.layer),
    "rms_norm": layer_norm_cases(row_norm.rms),
    "group_norm": group_norm_cases(),
    "instance_norm": instance_norm_cases(),
    "local_response_norm": response_norm_cases(),
    "whiten": whiten_cases(),
}
