"""Steps of optimisers over lists of arrays, and the clipping of gradients."""

from math import inf

from hypothesis import strategies as st

from fastnn.specs.optim import ADAM, RMSPROP, SGD, case
from strategies.common import shapes, sometimes, yes_or_no

lists = st.lists(shapes(0, 3), min_size=1, max_size=4)
rates = st.sampled_from((1e-3, 0.1, 1.0, 0.0))
decays = st.sampled_from((0.0, 0.1, 0.25))
epsilons = st.sampled_from((1e-8, 1e-3, 1.0))
shares = st.sampled_from((0.9, 0.0, 0.5, 0.99, 0.999))


@st.composite
def sgd_cases(draw):
    options = sometimes(draw, lr=rates, weight_decay=decays, maximize=yes_or_no)
    names = SGD[:2]
    if draw(yes_or_no):
        names = SGD
        options["momentum"] = draw(st.sampled_from((0.9, 0.5, 0.1)))
        form = draw(st.sampled_from(("", "nesterov", "dampening")))
        options |= {"nesterov": True} if form == "nesterov" else {"dampening": 0.5} if form else {}
        options |= sometimes(draw, first=yes_or_no)
    return case(names, draw(lists), **options)


@st.composite
def rmsprop_cases(draw):
    options = sometimes(draw, lr=rates, alpha=shares, eps=epsilons, weight_decay=decays, maximize=yes_or_no)
    names = RMSPROP[:3]
    if draw(yes_or_no):
        names = [*names, RMSPROP[3]]
        if options.get("alpha") == 0:  # then the variance, which is divided by, is nothing but rounding
            options["alpha"] = 0.5
    if draw(yes_or_no):
        names = [*names, RMSPROP[4]]
        options |= sometimes(draw, momentum=shares)
    return case(names, draw(lists), **options)


@st.composite
def adam_cases(draw):
    options = sometimes(
        draw, lr=rates, betas=st.tuples(shares, shares), eps=epsilons, weight_decay=decays, maximize=yes_or_no
    )
    return case(ADAM if draw(yes_or_no) else ADAM[:4], draw(lists), step=draw(st.integers(1, 1000)), **options)


@st.composite
def clip_norm_cases(draw):
    options = {
        "max_norm": draw(st.sampled_from((1.0, 3, 0.5, 0.0, 1000.0))),
        **sometimes(draw, norm_type=st.sampled_from((2, inf)), error_if_nonfinite=yes_or_no),
    }
    return case(["grads"], draw(lists), **options)


@st.composite
def clip_value_cases(draw):
    return case(["grads"], draw(lists), clip_value=draw(st.sampled_from((0.5, 3, 0.0, 1.25))))


STRATEGIES = {
    "sgd_step": sgd_cases(),
    "rmsprop_step": rmsprop_cases(),
    "adam_step": adam_cases(),
    "adamw_step": adam_cases(),
    "clip_grad_norm": clip_norm_cases(),
    "clip_grad_value": clip_value_cases(),
}
