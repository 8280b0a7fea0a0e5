"""Losses: of classes, of distributions, of single elements."""

from hypothesis import strategies as st

from fastnn.registry import Case
from fastnn.specs.loss import cross_entropy_case, probability_case
from strategies.common import batch, picks, reductions, shapes, sometimes, yes_or_no

positive = st.sampled_from((1.0, 0.125, 0.3, 2.0, 5.0))
CLASSES = (1, 2, 3, 5, 7, 8, 9, 10, 15, 16, 17, 33, 65, 130)


@st.composite
def class_cases(draw, probabilities):
    """Logits (C,), (N, C) or with more axes; where a loss is the mean, there is a sample."""
    ndim, classes, weighted, pixels, more = draw(
        picks((2, 1, 3, 4), CLASSES, (False, True), (1, 2, 3, 16, 17), (1, 2, 3))
    )
    shape = (classes,) if ndim == 1 else (draw(batch), classes, *(pixels, more)[: ndim - 2])
    options = sometimes(draw, reduction=reductions)
    if probabilities:
        options |= sometimes(draw, label_smoothing=st.sampled_from((0.1, 0.25, 1.0)))
        if draw(yes_or_no):
            return probability_case(shape, weighted, **options)
    return cross_entropy_case(
        shape, weighted, **options, **sometimes(draw, ignore_index=st.sampled_from((-100, 0, classes - 1, 2**40)))
    )


@st.composite
def pair_cases(draw, options=None, kl=False):
    known = reductions if not kl else st.sampled_from(("mean", "sum", "none", "batchmean"))
    shape = draw(shapes())
    return Case({"x": shape, "target": shape}, sometimes(draw, reduction=known, **(options or {})))


@st.composite
def weighted_cases(draw, *names):
    """Weights that broadcast to x: absent, or of some of its trailing axes, some of these 1."""
    shape = draw(shapes())
    weights = {}
    for name in names:
        count, ones = draw(picks(range(-1, len(shape) + 1), range(2 ** len(shape))))
        kept = shape[len(shape) - count :] if count else ()
        weights[name] = None if count < 0 else tuple(1 if ones >> i & 1 else n for i, n in enumerate(kept))
    return Case({"x": shape, "target": shape, **weights}, sometimes(draw, reduction=reductions))


@st.composite
def divergence_cases(draw):
    shape = draw(shapes(1, empty=False))
    axis, without, reduction = draw(picks(range(-len(shape), len(shape)), range(16), ("mean", "sum", "none")))
    if without == 15:
        shape = tuple(n if i == axis % len(shape) else 0 for i, n in enumerate(shape))
    return Case({"p": shape, "q": shape}, {"axis": axis, "reduction": reduction})


STRATEGIES = {
    "cross_entropy": class_cases(True),
    "nll_loss": class_cases(False),
    "js_divergence": divergence_cases(),
    "mse_loss": pair_cases(),
    "l1_loss": pair_cases(),
    "smooth_l1_loss": pair_cases({"beta": st.one_of(positive, st.just(0.0))}),
    "huber_loss": pair_cases({"delta": positive}),
    "kl_div": pair_cases({"log_target": yes_or_no}, kl=True),
    "binary_cross_entropy_with_logits": weighted_cases("weight", "pos_weight"),
    "binary_cross_entropy": weighted_cases("weight"),
}
