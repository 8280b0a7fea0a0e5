"""Design guidelines of convolutional networks, and where a model departs from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastnn.inspection.steps import LAYERS, Kind, Network, behind, network_of_modules, network_of_run
from fastnn.inspection.trace import check_model, inputs_of, trace

__all__ = ["RULES", "Finding", "Findings", "lint"]


class Finding(NamedTuple):
    """A departure from a guideline."""

    rule: str
    """The guideline's name, a key of RULES."""
    path: str
    """Of the layer, such as "layer1.0.conv1"; or "optimizer", "batch_size"."""
    reason: str
    """What is so, and why it matters."""


class Findings:
    """What `lint` found: `findings`, a list of Finding. False if there are none. str() is a text of them."""

    def __init__(self, findings: list[Finding]):
        self.findings = findings

    def __len__(self):
        return len(self.findings)

    def __iter__(self):
        return iter(self.findings)

    def __getitem__(self, i):
        return self.findings[i]

    def __str__(self):
        if not self.findings:
            return "No findings."
        from textwrap import fill

        lines = [f"{len(self)} finding{'s' if len(self) > 1 else ''}"]
        for rule, path, reason in self.findings:
            lines += ["", f"{path or '(model)'}: {rule}"]
            lines.append(fill(reason, 100, initial_indent="  ", subsequent_indent="  "))
        return "\n".join(lines)

    __repr__ = __str__


class Subject(NamedTuple):
    """What the rules look at."""

    network: Network
    model: Any
    batch_size: Any
    optimizer: Any
    loss: Any


Found = Iterator[tuple[str, str]]  # paths and reasons


# ---- what follows on what ----


def convolution_pairs(network):
    """(convolution, one before it, has a batch norm between) without a non-linearity in between."""
    linear = {Kind.BATCH_NORM, Kind.MAP, Kind.MOVE, Kind.PAD}
    for step in network.of_kind(Kind.CONVOLUTION, Kind.UP):
        for before, between in behind(step.sources, {Kind.CONVOLUTION, Kind.UP}, linear):
            yield step, before, any(other.kind is Kind.BATCH_NORM for other in between)


def consecutive_convolutions(subject) -> Found:
    """Two convolutions in a row, with no non-linearity between them."""
    for step, before, normalised in convolution_pairs(subject.network):
        if not normalised:
            reason = (
                f"There is no non-linearity between {named(before)} and this {step.kind}. Two linear maps in a row are "
                "one linear map: together they can learn nothing that a single one with a larger kernel cannot, at "
                "more cost. Put an activation such as ReLU between."
            )
            yield step.path, reason


def convolution_norm_convolution(subject) -> Found:
    """Convolution, batch norm and convolution in a row, with no non-linearity between them."""
    for step, before, normalised in convolution_pairs(subject.network):
        if normalised:
            reason = (
                f"Between {named(before)} and this {step.kind} there is a batch norm, and no non-linearity. Batch norm "
                "only scales and shifts channels, so that the two still are one linear map. Put an activation such as "
                "ReLU behind the batch norm."
            )
            yield step.path, reason


def relu_before_softmax(subject) -> Found:
    """ReLU right before softmax, log-softmax, or a cross-entropy that contains it."""
    why = (
        "Scores are there to have any sign: with ReLU, all classes that a sample speaks against get the same score, 0, "
        "and no gradient that could change it. Leave out the ReLU."
    )
    for step in subject.network.of_kind(Kind.SOFTMAX):
        for relu, _ in behind(step.sources, {Kind.RELU}, {Kind.MOVE}):
            yield relu.path, f"The results of this ReLU go to a softmax. {why}"
    if is_cross_entropy(subject.loss):
        for relu, _ in behind(subject.network.results, {Kind.RELU}, {Kind.MOVE}):
            yield relu.path, f"The results of this ReLU go to cross-entropy, which begins with a softmax. {why}"


def is_cross_entropy(loss):
    """A name, function or Module."""
    names = [c.__name__ for c in type(loss).__mro__]
    return loss == "cross_entropy" or getattr(loss, "__name__", None) == "cross_entropy" or "CrossEntropyLoss" in names


# ---- sizes ----


def size_changing_convolution(subject) -> Found:
    """A convolution that does not sub-sample and changes the size of maps."""
    for step in subject.network.of_kind(Kind.CONVOLUTION):
        if step.change is not None and any(step.change):
            kernel, change = shown(step.kernel), ", ".join(f"{n:+d}" for n in step.change)
            reason = (
                f"This convolution with a {kernel} kernel and stride 1 changes the size of maps by ({change}) pixels. "
                'Pad by half the kernel (padding="same"), so that only sub-sampling changes sizes: else pixels at the '
                "borders count less, each layer loses some, and depth is limited by the size of the input."
            )
            yield step.path, reason


def odd_up_convolution(subject) -> Found:
    """An up-convolution with a kernel of odd length."""
    for step in subject.network.of_kind(Kind.UP):
        if any(n % 2 for n in step.kernel):
            reason = (
                f"This up-convolution has a {shown(step.kernel)} kernel. With an odd length, kernels that lie a stride "
                "of 2 apart cover neighbouring pixels unequally often, which shows as a checkerboard pattern. Take an "
                "even length, a multiple of the stride, such as 2 or 4."
            )
            yield step.path, reason


def power_of_two_channels(subject) -> Found:
    """A number of channels that is not a power of two."""
    last = subject.network.last_layers()
    for step in subject.network.of_kind(*LAYERS):
        if step not in last and not is_power_of_two(step.channels):
            reason = (
                f"This {step.kind} has {step.channels} {'units' if step.kind is Kind.LINEAR else 'channels'}, not a "
                f"power of two. Powers of two, {' or '.join(map(str, around(step.channels)))} here, fill vector "
                "registers and tiles without a remainder, and leave fewer numbers to choose from."
            )
            yield step.path, reason


def power_of_two_batch(subject) -> Found:
    """A batch size that is not a power of two."""
    n = subject.batch_size
    if n is not None and not is_power_of_two(n):
        reason = (
            f"The batch size is {n}, not a power of two. Powers of two, {' or '.join(map(str, around(n)))} here, share "
            "out evenly among threads and vector registers, and leave fewer numbers to choose from."
        )
        yield "batch_size", reason


def is_power_of_two(n):
    return n > 0 and n & (n - 1) == 0


def around(n):
    """The powers of two below and above n."""
    power = 1 << max(n, 1).bit_length()
    return power // 2, power


def shown(lengths):
    return "x".join(map(str, lengths))


def named(step):
    return step.path or f"the first {step.kind}"


# ---- hyper-parameters ----


def special_hyper_parameter(subject) -> Found:
    """A hyper-parameter with more digits than anybody can have a reason for."""
    for path, name, value in hyper_parameters(subject):
        if not is_usual(value):
            reason = (
                f"{name} is {value}. Results that need so special a number are luck, and nobody will be able to "
                "repeat them on other data. One or two digits will do: results hardly differ, and the next one who "
                "reads it need not ask why."
            )
            yield path, reason


def hyper_parameters(subject):
    """(path, name, value) of floats among the optimiser's options and the arguments of Modules' constructors."""
    groups = getattr(subject.optimizer, "param_groups", subject.optimizer)
    for group in [groups] if isinstance(groups, Mapping) else groups or ():
        # A schedule keeps in initial_lr what the user chose.
        for name, value in {**group, "lr": group.get("initial_lr", group.get("lr"))}.items():
            yield from (("optimizer", name, x) for x in floats(value) if name != "initial_lr")
    from inspect import signature

    for path, module in subject.model.named_modules():
        for name in signature(type(module).__init__).parameters:
            yield from ((path, name, x) for x in floats(vars(module).get(name)))


def floats(value):
    """A float, and each of a tuple."""
    return [x for x in (value if isinstance(value, tuple | list) else [value]) if isinstance(x, float | np.floating)]


def is_usual(value):
    """Is it what somebody would choose? Integers, infinities; at most two digits, or more that make quarters (1.25,
    0.0375) or a power of two (0.256), of it or of what is missing to 1 (0.9995); powers of two, and fractions up to
    sixteenths."""
    value = abs(float(str(value)))  # float32's 0.1 is meant to be 0.1
    if not np.isfinite(value) or value == round(value) or np.frexp(value)[0] == 0.5:
        return True
    fraction = any(round(value * q) / q == value for q in range(2, 17))
    return fraction or has_usual_digits(value) or (0.5 < value < 1 and has_usual_digits(round(1 - value, 12)))


def has_usual_digits(value):
    digits = np.format_float_scientific(value, trim="-").partition("e")[0].replace(".", "")
    quarters = len(digits) == 3 and digits[1:] in ("25", "75")
    return len(digits) <= 2 or quarters or is_power_of_two(int(digits))


RULES: dict[str, Callable[[Subject], Found]] = {
    rule.__name__.replace("_", "-"): rule
    for rule in (
        consecutive_convolutions,
        convolution_norm_convolution,
        relu_before_softmax,
        size_changing_convolution,
        odd_up_convolution,
        power_of_two_channels,
        power_of_two_batch,
        special_hyper_parameter,
    )
}
"""The guidelines by name."""


def silencers(ignore):
    """(rule, pattern of paths) of lint's `ignore`."""
    pairs = []
    for entry in [ignore] if isinstance(ignore, str) else ignore:
        rule, pattern = (entry, "*") if isinstance(entry, str) else entry
        if rule not in RULES:
            raise ValueError(f"lint: ignore has the rule {rule!r}, expected one of {', '.join(RULES)}")
        pairs.append((rule, pattern))
    return pairs


def lint(
    model, input_shape=None, input_data=None, *, dtypes=None, batch_size=None, optimizer=None, loss=None, ignore=()
) -> Findings:
    """Where a model departs from guidelines for the design of networks, as `Findings`, with a reason for each:

        consecutive-convolutions        two convolutions in a row with no non-linearity between
        convolution-norm-convolution    the same with a batch norm between
        relu-before-softmax             ReLU right before softmax, log-softmax or cross-entropy
        size-changing-convolution       a convolution with stride 1 that changes the size of maps
        odd-up-convolution              an up-convolution with a kernel of odd length
        power-of-two-channels           channels or units that are not a power of two; of inputs and results they may be
        power-of-two-batch              a batch size that is not a power of two
        special-hyper-parameter         0.038247, for the learning rate or an argument of a layer: more than two
                                        digits, except 1.25, 0.9995, 0.256, powers of two, fractions up to 1/16

    Additions, concatenations, average pooling and dropout do not come between two layers; max pooling is a
    non-linearity. input_shape, input_data, dtypes: as of `summary`; the model is run once on them, and the way of the
    data through it is known, whatever its forward does. Without, it is the order in Sequential, Residual and Parallel,
    and what happens between other Modules is not known.

    batch_size, optimizer (or a dictionary of options) and loss (a Module, function or name) are those of training.
    ignore: names of rules, and pairs of a name and a pattern of paths: ["power-of-two-channels",
    ("size-changing-convolution", "stem.*")]. TypeError, ValueError: arguments.
    """
    from fnmatch import fnmatchcase

    check_model("lint", model)
    ignored = silencers(ignore)
    if batch_size is not None and (not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool)):
        raise TypeError(f"lint: batch_size must be an integer, got {batch_size!r}")
    if not (optimizer is None or isinstance(optimizer, Mapping) or hasattr(optimizer, "param_groups")):
        raise TypeError(f"lint: optimizer must have param_groups or be a dictionary, got {type(optimizer).__name__}")
    inputs = inputs_of("lint", model, input_shape, input_data, dtypes)
    network = network_of_modules(model) if inputs is None else network_of_run(trace(model, *inputs))
    subject = Subject(network, model, batch_size, optimizer, loss)
    found = dict.fromkeys(Finding(name, *finding) for name, rule in RULES.items() for finding in rule(subject))
    silent = {x for x in found for rule, pattern in ignored if x.rule == rule and fnmatchcase(x.path, pattern)}
    return Findings([finding for finding in found if finding not in silent])
