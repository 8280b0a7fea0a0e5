"""A model as a table: shapes, parameters and multiply-adds of its Modules."""

from __future__ import annotations

from typing import NamedTuple

from fastnn.inspection.trace import ModuleCall, arrays_of, check_model, inputs_of, trace

__all__ = ["Row", "Summary", "summary"]

Shapes = list[tuple[int, ...]]


class Row(NamedTuple):
    """A call of a Module, or a Module that was not called."""

    path: str
    """The Module's first name in the model, such as "layer1.0.conv1"; "" is the model itself."""
    name: str
    """The same, seen from the Module that called it."""
    kind: str
    """The name of its class."""
    depth: int
    """0 is the model itself."""
    inputs: Shapes | None
    """Of all arrays among the arguments; None if it was not called."""
    outputs: Shapes | None
    parameters: int
    """Elements of its own Parameters, without those of the rows below it, and of rows above that have the same ones."""
    trainable: int
    """Of these, those that require a gradient."""
    recursive: bool
    """It has Parameters that a row above has."""
    multiply_adds: int
    """Of what it computes itself, without the rows below it."""


class Summary:
    """What `summary` found. str() is the table.

    rows: a list of Row, in order of the calls. parameters, trainable: numbers of elements, shared ones once.
    multiply_adds: of the run. input_bytes, parameter_bytes: of the arrays. forward_bytes: of the results of all
    operators, without those that show the memory of others: what a training step can have to keep.
    """

    def __init__(self, rows: list[Row], parameters, input_bytes: int, forward_bytes: int):
        self.rows = rows
        self.parameters: int = sum(p.size for p in parameters)
        self.trainable: int = sum(p.size for p in parameters if p.requires_grad)
        self.multiply_adds = sum(row.multiply_adds for row in rows)
        self.input_bytes, self.forward_bytes = input_bytes, forward_bytes
        self.parameter_bytes: int = sum(p.array.nbytes for p in parameters)

    def __str__(self):
        table = [("Module", "Input", "Output", "Parameters", "Multiply-adds")]
        for row, branch in zip(self.rows, branches([row.depth for row in self.rows]), strict=True):
            name = f"{branch}{row.name}: {row.kind}" if row.depth else row.kind
            amounts = parameters_text(row), f"{row.multiply_adds:,}" if row.multiply_adds else "–"
            table.append((name, shapes_text(row.inputs), shapes_text(row.outputs), *amounts))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        rule = "─" * (sum(widths) + 2 * len(widths) - 2)
        lines = []
        for line in table:
            cells = [x.ljust(w) if i < 3 else x.rjust(w) for i, (x, w) in enumerate(zip(line, widths, strict=True))]
            lines.append("  ".join(cells).rstrip())
        frozen = self.parameters - self.trainable
        totals = [f"Parameters: {self.parameters:,}, trainable {self.trainable:,}, frozen {frozen:,}"]
        sizes = {"parameters": self.parameter_bytes}
        if self.rows[0].inputs is not None:
            totals.append(f"Multiply-adds: {short(self.multiply_adds)}")
            sizes = {"input": self.input_bytes, "forward": self.forward_bytes, **sizes}
            sizes["together"] = sum(sizes.values())
        totals.append("Size (MB): " + ", ".join(f"{name} {n / 1e6:.2f}" for name, n in sizes.items()))
        return "\n".join([rule, lines[0], rule, *lines[1:], rule, *totals, rule])

    __repr__ = __str__


def shapes_text(shapes):
    """Shapes as the table has them."""
    return "–" if shapes is None else " ".join(str(list(shape)) for shape in shapes)


def parameters_text(row):
    """A row's number of parameters, and whether they are frozen or counted above."""
    if not row.parameters:
        return "(recursive)" if row.recursive else "–"
    frozen = row.parameters - row.trainable
    note = "" if not frozen else " frozen" if frozen == row.parameters else f", {frozen:,} frozen"
    return f"{row.parameters:,}{note}"


def short(n):
    """A large number in its unit: 15.47 G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return f"{n:,}"


def branches(depths):
    """What stands before the names of a tree's nodes, given in order by their depth."""
    texts: list[str] = []
    following: set[int] = set()  # depths at which another node of the same parent comes
    for depth in reversed(depths):
        stem = "".join("│  " if level in following else "   " for level in range(1, depth))
        texts.append(stem + ("├─ " if depth in following else "└─ ") if depth else "")
        following = {level for level in following if level < depth} | {depth}
    return texts[::-1]


def unwatched(module, path):
    """A Module and those in it as if each had called its children."""
    call = ModuleCall(module, path, None)
    call.outputs = None
    call.children = [unwatched(child, f"{path}.{name}" if path else name) for name, child in module.named_children()]
    return call


def all_calls(call):
    """A call and all in it."""
    yield call
    for child in call.children:
        yield from all_calls(child)


def add_missing(model, root):
    """Modules with Parameters that were not called, since their caller used those itself, come last in the call of the
    nearest Module around them."""
    first: dict[str, ModuleCall] = {}
    for call in all_calls(root):
        first.setdefault(call.path, call)
    for path, module in model.named_modules():
        if path not in first and module.own_parameters():
            around = path
            while around not in first:
                around = around.rpartition(".")[0]
            call = unwatched(module, path)
            call.children = []
            first[around].children.append(call)


def rows_of(call, caller, level, depth, seen):
    """The rows of a call and of those in it; what is deeper than `depth` counts to the row above."""
    own = call.module.own_parameters().values()
    new = [p for p in own if id(p) not in seen]
    recursive = len(new) < len(own)
    seen.update(map(id, new))
    below = [row for child in call.children for row in rows_of(child, call.path, level + 1, depth, seen)]
    hidden = below if level >= depth else []
    row = Row(
        call.path,
        call.path.removeprefix(f"{caller}.") if caller else call.path,
        type(call.module).__name__,
        level,
        call.inputs,
        call.outputs,
        sum(p.size for p in new) + sum(row.parameters for row in hidden),
        sum(p.size for p in new if p.requires_grad) + sum(row.trainable for row in hidden),
        recursive or any(row.recursive for row in hidden),
        sum(operation.multiply_adds() for operation in call.operations) + sum(row.multiply_adds for row in hidden),
    )
    return [row] if level >= depth else [row, *below]


def summary(model, input_shape=None, input_data=None, *, dtypes=None, depth=3) -> Summary:
    """The Modules of a model in the order in which they are called, with the shapes of what they get and return, their
    parameters and multiply-adds, as a `Summary`: `print(fastnn.summary(model, (1, 3, 224, 224)))`.

    input_shape: of the input, batch included; a list of shapes or a dictionary of shapes by name for several inputs.
    input_data: instead, the input itself, an array or Tensor, or a list, tuple or dictionary of arguments. Neither: the
    model is not run, and there are parameters alone. dtypes: of the inputs of input_shape, one for all or a list; that
    of the parameters if None. Integers are zeros. depth: Modules that are deeper count to those around them.

    The model is run once, in inference mode and without recording. Training flags, buffers, random numbers and what
    Modules keep are afterwards as they were, also if the run raises. Other threads may call the model meanwhile, and
    are not counted, but see it in inference mode.

    Multiply-adds are those that the operators that run have by their descriptors (`work` of their OpSpecs): matrix
    products and convolutions, with a multiplication and an addition for one. TypeError, ValueError: arguments.
    """
    check_model("summary", model)
    if not isinstance(depth, int) or depth < 0:
        raise ValueError(f"summary: depth is {depth!r}, expected an integer, at least 0")
    inputs = inputs_of("summary", model, input_shape, input_data, dtypes)
    input_bytes = forward_bytes = 0
    root = unwatched(model, "")
    if inputs is not None:
        run = trace(model, *inputs)
        root = run.calls[0]
        add_missing(model, root)
        input_bytes = sum(x.nbytes for x in arrays_of(inputs))
        forward_bytes = sum(operation.nbytes for operation in run.operations)
    return Summary(rows_of(root, "", 0, depth, set()), list(model.parameters()), input_bytes, forward_bytes)
