"""A model as a graph of steps, as far as design guidelines care: from a run of it, or from its Sequentials alone."""

from __future__ import annotations

from enum import Enum

from fastnn.inspection.trace import Operand, Operation, Trace
from fastnn.nn.container import Parallel, Residual, Sequential
from fastnn.nn.module import Module

__all__ = ["LAYERS", "Kind", "Network", "Step", "behind", "network_of_modules", "network_of_run"]


class Kind(Enum):
    """What guidelines distinguish."""

    CONVOLUTION = "convolution"
    UP = "up-convolution"
    LINEAR = "fully connected layer"
    BATCH_NORM = "batch norm"
    RELU = "ReLU"
    SOFTMAX = "softmax"
    PAD = "padding"
    MOVE = "elements as they are, at other places or only some of them"
    MAP = "any other function that is linear in the data, up to a constant"
    OTHER = "not linear, or unknown"

    def __str__(self):
        return self.value


LAYERS = {Kind.CONVOLUTION, Kind.UP, Kind.LINEAR}

OPERATORS = {
    **dict.fromkeys(("conv1d", "conv2d"), Kind.CONVOLUTION),
    "conv_transpose2d": Kind.UP,
    "linear": Kind.LINEAR,
    "batch_norm": Kind.BATCH_NORM,
    **dict.fromkeys(("relu", "relu6"), Kind.RELU),
    **dict.fromkeys(("cross_entropy", "log_softmax", "softmax"), Kind.SOFTMAX),
    **dict.fromkeys(("broadcast_to", "cast", "clone", "concat", "flatten", "getitem", "permute", "reshape"), Kind.MOVE),
    **dict.fromkeys(("split", "stack", "subsample2d", "take", "unflatten"), Kind.MOVE),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d"), Kind.MOVE),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d", "avg_pool2d"), Kind.MAP),
    **dict.fromkeys(("add", "divide", "mean", "minus", "negative", "plus", "sum", "times"), Kind.MAP),
    **dict.fromkeys(("upsample_bilinear2d", "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d"), Kind.MAP),
    "upsample_zeros2d": Kind.MAP,
    "pad": Kind.PAD,
}
"""What operators are, by name."""

MODULES = {
    **dict.fromkeys(("Conv1d", "Conv2d"), Kind.CONVOLUTION),
    "ConvTranspose2d": Kind.UP,
    "Linear": Kind.LINEAR,
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"), Kind.BATCH_NORM),
    **dict.fromkeys(("ReLU", "ReLU6"), Kind.RELU),
    **dict.fromkeys(("LogSoftmax", "Softmax", "Softmax2d"), Kind.SOFTMAX),
    **dict.fromkeys(("Dropout", "Dropout1d", "Dropout2d", "Flatten", "Identity", "Unflatten"), Kind.MOVE),
    **dict.fromkeys(("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AvgPool1d", "AvgPool2d"), Kind.MAP),
    **{
        f"{mode}Pad{n}d": Kind.PAD
        for mode in ("Circular", "Constant", "Reflection", "Replication", "Zero")
        for n in "12"
    },
    "SubSample2d": Kind.MOVE,
    **dict.fromkeys(("Upsample", "UpsampleZeros2d", "UpsamplingBilinear2d", "UpsamplingNearest2d"), Kind.MAP),
}
"""What Modules are, by the name of their class or one that it inherits from."""


class Step:
    """What one operator does."""

    __slots__ = ("change", "channels", "kernel", "kind", "path", "sources")

    def __init__(self, kind, path, sources):
        self.kind: Kind = kind
        self.path: str = path
        """Of the Module, or of the Parameter if that is not named weight."""
        self.sources: list[Step] = sources
        """Where its data come from."""
        self.channels = 0
        """How many channels or units a layer makes."""
        self.kernel: tuple[int, ...] = ()
        """The lengths of its kernel's axes."""
        self.change: tuple[int, ...] | None = None
        """By how many pixels a convolution lengthens the axes of maps, 0 where it has a stride; None: unknown."""

    def weigh(self, shape, groups):
        """Read off the shape of the weights."""
        self.channels, self.kernel = shape[1] * groups if self.kind is Kind.UP else shape[0], tuple(shape[2:])


class Network:
    """Steps in their order, and those that the results come from."""

    def __init__(self, steps: list[Step], results: list[Step]):
        self.steps, self.results = steps, results

    def of_kind(self, *kinds):
        """The steps of these kinds."""
        return [step for step in self.steps if step.kind in kinds]

    def last_layers(self) -> set[Step]:
        """The layers that make the results; the last one of all if that is not known."""
        return {step for step, _ in behind(self.results, LAYERS, None)} or set(self.of_kind(*LAYERS)[-1:])


def behind(steps, wanted, passed):
    """The nearest steps of the kinds `wanted` behind some, and these themselves, each with the steps between, latest
    first. Only steps of the kinds `passed` may be between; None: any."""
    found, seen = [], set()
    stack = [(step, ()) for step in steps]
    while stack:
        step, between = stack.pop()
        if step.kind in wanted:
            found.append((step, between))
        elif step not in seen and (passed is None or step.kind in passed):
            seen.add(step)
            stack.extend((source, (*between, step)) for source in step.sources)
    return found


# ---- from a run ----


def network_of_run(run: Trace) -> Network:
    """All operators that ran, and the way of the data through them."""
    steps: list[Step] = []
    made: dict[Operation, Step] = {}
    for operation in run.operations:
        step = step_of_operation(operation, made)
        steps.append(step)
        if operation.arguments.get("relu") is True or operation.arguments.get("activation") == "relu":
            step = Step(Kind.RELU, step.path, [step])
            steps.append(step)
        made[operation] = step
    return Network(steps, [made[operation] for operation in run.outputs])


def step_of_operation(operation, made):
    """The step of an operation, given those of the operations before."""
    kind = OPERATORS.get(operation.name, Kind.OTHER)
    data = [x for x in operation.operands() if x.data]
    if operation.name == "times" and len(data) > 1:
        kind = Kind.OTHER
    if operation.name == "divide":
        divisor = operation.arguments["b"]
        kind = Kind.OTHER if isinstance(divisor, Operand) and divisor.data else kind
    step = Step(kind, path_of(operation), [made[x.source] for x in data if x.source is not None])
    if kind in LAYERS:
        step.weigh(operation.arguments["w"].shape, operation.arguments.get("groups", 1))
    if step.path.rpartition(".")[2] == "in_proj":  # of MultiheadAttention: three layers in one product
        step.channels //= 3
    if kind is Kind.CONVOLUTION:
        x = operation.arguments["x"]
        before = x.source.arguments["x"] if x.source is not None and x.source.name == "pad" else x
        strides = each_axis(operation.arguments.get("stride", 1), len(step.kernel))
        lengths = zip(strides, before.shape[2:], operation.shapes[0][2:], strict=True)
        step.change = tuple(new - old if stride == 1 else 0 for stride, old, new in lengths)
    return step


def path_of(operation):
    """Of the Parameter among the arguments that comes first, without "weight"; else of the Module."""
    for x in operation.operands():
        if x.parameter is not None:
            return x.parameter.removesuffix("weight").rstrip("._")
    return operation.path


def each_axis(option, axes):
    """An option of a convolution as a tuple."""
    return tuple(option) if isinstance(option, list | tuple) else (option,) * axes


# ---- from the Modules ----


def network_of_modules(model: Module) -> Network:
    """What Sequential, Residual and Parallel say of the order. Modules with another forward are Kind.OTHER steps, and
    whatever is in them begins anew."""
    steps: list[Step] = []
    paths = {module: path for path, module in model.named_modules()}  # the first one of each

    def add(kind, path, sources):
        steps.append(Step(kind, path, sources))
        return steps[-1]

    def walk(module, sources):
        """Add a Module's steps behind those of `sources`; returns the last ones."""
        path, children = paths[module], [x for x in vars(module).values() if isinstance(x, Module)]
        forward = type(module).forward if hasattr(type(module), "forward") else None
        if forward is Sequential.forward:
            for child in children:
                sources = walk(child, sources)
            return sources
        if forward is Residual.forward or forward is Parallel.forward:
            ends = [step for child in children for step in walk(child, sources)]
            if forward is Parallel.forward:
                return [add(Kind.MOVE, path, ends)]
            total = add(Kind.MAP, path, ends + ([] if module.shortcut is not None else sources))
            return [add(Kind.RELU, path, [total])] if module.relu else [total]
        for child in children:
            walk(child, [])
        names = (c.__name__ for c in type(module).__mro__ if c.__module__.startswith("fastnn.nn."))
        kind = next((MODULES[name] for name in names if name in MODULES), Kind.OTHER)
        step = add(kind, path, [] if children else sources)
        if kind in LAYERS:
            step.weigh(module.weight.shape, getattr(module, "groups", 1))
        if kind is Kind.CONVOLUTION and not any(source.kind is Kind.PAD for source in sources):
            step.change = change_of(module, step.kernel)
        return [step]

    return Network(steps, walk(model, []))


def change_of(module, kernel):
    """Step.change of a convolution, from its options; padding may be one before and one behind each axis."""
    axes = len(kernel)
    if module.padding == "same":
        return (0,) * axes
    padding = each_axis(0 if module.padding == "valid" else module.padding, axes)
    added = (
        [2 * p for p in padding] if len(padding) == axes else [sum(padding[i : i + 2]) for i in range(0, 2 * axes, 2)]
    )
    strides, dilations = each_axis(module.stride, axes), each_axis(module.dilation, axes)
    options = zip(kernel, strides, dilations, added, strict=True)
    return tuple(n - d * (k - 1) if stride == 1 else 0 for k, stride, d, n in options)
