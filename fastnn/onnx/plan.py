"""Graphs as steps that run, and plans of their memory.

A `Program` runs the steps. The first call with inputs of some shapes notes what every step made; from that comes a
`Plan` for these shapes: values that follow from shapes alone are constants, and results share one block of memory, the
*arena*, wherever they do not live at once. What a caller gets is never in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastnn.onnx.dependence import Dependence
from fastnn.onnx.graph import Graph
from fastnn.onnx.prepare import prepared

__all__ = ["Program"]

PLANS = 16
"""Shapes of inputs that are remembered; the oldest is forgotten."""
KNOWN_BYTES = 16 << 20
"""Largest array that a plan keeps as a constant."""


class Step(NamedTuple):
    """A node. Values have numbers, slots; 0 is None, an input left out."""

    node: object
    function: object
    writes: bool
    over: tuple[int, ...]
    sources: tuple[int, ...]
    captured: tuple[int, ...]
    """Those that its subgraphs read."""
    targets: tuple[int, ...]


class Program:
    """A graph whose nodes are ready to be called. Safe to run in several threads at once."""

    def __init__(self, graph: Graph, outer: dict[str, np.ndarray] | None = None):
        """outer: constants of the graphs around it."""
        self.graph = graph
        constants = {**(outer or {}), **graph.initializers}
        self.captures = graph.captures()
        names = [v.name for v in graph.inputs] + self.captures
        self.slots = {name: slot for slot, name in enumerate(names, 1)}
        self.inputs = range(1, len(graph.inputs) + 1)
        self.constants = {self.slot(name): array for name, array in graph.initializers.items()}
        self.steps = [self.step(node, constants) for node in graph.nodes]
        self.outputs = [self.slots[v.name] for v in graph.outputs]
        self.dependence = Dependence(self)
        self.plans: dict[tuple, Plan] = {}

    def slot(self, name):
        return self.slots.setdefault(name, len(self.slots) + 1) if name else 0

    def step(self, node, constants):
        function, writes, over = prepared(node, constants)
        programs = {id(graph): Program(graph, constants) for graph in node.subgraphs()}
        captured = tuple(dict.fromkeys(self.slots[name] for p in programs.values() for name in p.captures))
        if programs:
            function = self.with_subgraphs(function, programs, captured)
        sources = tuple(self.slot(name) for name in node.inputs)
        targets = tuple(self.slot(name) for name in node.outputs)
        while targets and not targets[-1]:
            targets = targets[:-1]
        return Step(node, function, writes and len(targets) == 1, over, sources, captured, targets)

    def with_subgraphs(self, function, programs, captured):
        """A function that is given what the subgraphs read behind its own inputs."""
        places = {slot: place for place, slot in enumerate(captured, -len(captured))}

        def call(*arrays):
            own = arrays[: len(arrays) - len(captured)]

            def run(graph, *inputs):
                program = programs[id(graph)]
                return program.once([*inputs, *(arrays[places[self.slots[name]]] for name in program.captures)])

            return function(*own, run=run)

        return call

    def values(self, arrays):
        """All slots, with constants and inputs in theirs."""
        values = [None] * (len(self.slots) + 1)
        for slot, array in self.constants.items():
            values[slot] = array
        values[1 : len(arrays) + 1] = arrays
        return values

    def once(self, arrays):
        """The outputs, without a plan. arrays: inputs and captures."""
        values = self.values(arrays)
        for step in self.steps:
            execute(step, values)
        return [values[slot] for slot in self.outputs]

    def run(self, arrays):
        """The outputs, arrays that nobody else has; inputs, C-contiguous arrays, are not changed."""
        if not all(isinstance(x, np.ndarray) for x in arrays):  # sequences, and what is optional
            return owned(self.once(arrays), arrays, self.constants.values())
        key = tuple((x.shape, x.dtype) for x in arrays)
        plan = self.plans.get(key)
        if plan is not None:
            return plan.run(arrays)
        record = Record(self, arrays)
        if len(self.plans) >= PLANS:
            self.plans.pop(next(iter(self.plans)), None)
        self.plans[key] = Plan(self, record)
        return record.results


def execute(step, values, out=None):
    """Run a step; the results go to their slots."""
    arguments = [values[slot] for slot in step.sources + step.captured]
    try:
        result = step.function(*arguments) if out is None else step.function(*arguments, out=out)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{step.node}: {error}") from error if type(error) in (TypeError, ValueError) else None
    if type(result) is not tuple:
        result = (result,)
    for slot, value in zip(step.targets, result, strict=False):
        if slot:
            values[slot] = value


class Note(NamedTuple):
    """What the first run saw of a value."""

    shape: tuple[int, ...]
    dtype: np.dtype
    contiguous: bool
    nbytes: int


class Groups:
    """Slots that may share memory (union-find)."""

    def __init__(self, n):
        self.parent = list(range(n))

    def of(self, slot):
        while self.parent[slot] != slot:
            self.parent[slot] = slot = self.parent[self.parent[slot]]
        return slot

    def join(self, a, b):
        self.parent[self.of(a)] = self.of(b)


class Record:
    """The first run with inputs of some shapes."""

    def __init__(self, program, arrays):
        values = program.values(arrays)
        self.groups = Groups(len(values))
        self.notes: dict[int, Note] = {}
        self.known: dict[int, np.ndarray] = {}
        known, static = program.dependence.known, program.dependence.static
        last = last_uses(program.steps, program.outputs)
        for i, step in enumerate(program.steps):
            execute(step, values)
            read = {slot for slot in step.sources + step.captured if slot}
            for slot in filter(None, step.targets):
                value = values[slot]
                if isinstance(value, np.ndarray):
                    self.notes[slot] = Note(value.shape, value.dtype, value.flags.carray, value.nbytes)
                    if slot in known and value.nbytes <= KNOWN_BYTES:
                        self.known[slot] = value
                for other in read | set(step.targets) - {0, slot}:
                    if slot not in static or shares(value, values[other]):
                        self.groups.join(slot, other)
            for slot in read | set(step.targets):
                if last.get(slot, i) == i:
                    values[slot] = None
        self.results = owned([values[slot] for slot in program.outputs], arrays, program.constants.values())


def shares(a, b):
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.size and b.size and np.may_share_memory(a, b)
    return isinstance(a, list | tuple) or isinstance(b, list | tuple)


def owned(results, inputs, constants):
    """The results, copies of those that share memory with anything else."""
    others, found = [*inputs, *constants], []
    for value in results:
        if isinstance(value, np.ndarray) and any(shares(value, other) for other in others):
            value = value.copy()
        found.append(value)
        others.append(value)
    return found


def last_uses(steps, outputs):
    """Slot -> the last step that reads it; outputs are read behind all."""
    last = {slot: i for i, step in enumerate(steps) for slot in step.sources + step.captured}
    last.update(dict.fromkeys(outputs, len(steps)))
    return last


class Plan:
    """Steps for inputs of some shapes, and where in the arena their results lie."""

    def __init__(self, program, record):
        self.program = program
        groups, notes, known = record.groups, record.notes, record.known
        static = program.dependence.static
        steps = [step for step in program.steps if not all(slot in known for slot in step.targets if slot)]
        first = program.values([None] * len(program.inputs))
        for slot, value in known.items():
            first[slot] = value
        self.first = first
        lasting = {0, *program.inputs, *program.constants, *known}
        outside = {groups.of(slot) for slot in lasting}
        kept = {groups.of(slot) for slot in program.outputs} | outside
        last = last_uses(steps, program.outputs)
        ends: dict[int, int] = {}
        for slot, i in last.items():
            ends[groups.of(slot)] = max(i, ends.get(groups.of(slot), 0))
        self.steps = []
        blocks: list[Block] = []
        placed: dict[int, int] = {}
        for i, step in enumerate(steps):
            out = None
            slot = step.targets[0] if len(step.targets) == 1 else 0
            note = notes.get(slot)
            if step.writes and note is not None and slot in static and note.contiguous and note.nbytes:
                source = overwritten(step, note, notes, static, groups, ends, outside, i)
                if source is not None:
                    end = max(i, ends.get(groups.of(slot), i))
                    root, target = groups.of(source), groups.of(slot)
                    groups.join(target, root)
                    ends[root] = end
                    if target in kept:  # what the caller gets begins here: nothing of it is in the arena
                        kept.add(root)
                        if root in placed:
                            blocks[placed.pop(root)].size = 0
                    if root in placed:
                        blocks[placed[root]].end = end
                    out = -source
                elif groups.of(slot) not in kept:
                    placed[groups.of(slot)] = len(blocks)
                    out = len(blocks)
                    blocks.append(Block(note, i, ends.get(groups.of(slot), i)))
            dead = {s for s in step.sources + step.captured + step.targets if s not in lasting and last.get(s, i) == i}
            self.steps.append((step, out, tuple(dead)))
        self.nbytes = place(blocks)
        self.blocks = blocks
        self.arenas: list[list[np.ndarray | None]] = []
        seen: set[int] = set()
        self.copied = []
        for slot in program.outputs:
            self.copied.append(groups.of(slot) in {groups.of(s) for s in lasting} | seen)
            seen.add(groups.of(slot))

    def arena(self):
        """Arrays for the results; the memory of an earlier call, if it is free."""
        try:
            return self.arenas.pop()
        except IndexError:
            memory = np.empty(self.nbytes + 64, np.uint8)
            start = -memory.ctypes.data % 64
            return [
                np.ndarray(b.note.shape, b.note.dtype, memory, start + b.offset) if b.size else None
                for b in self.blocks
            ]

    def run(self, arrays):
        values = self.first.copy()
        values[1 : len(arrays) + 1] = arrays
        arena = self.arena()
        for step, out, dead in self.steps:
            execute(step, values, None if out is None else arena[out] if out >= 0 else values[-out])
            for slot in dead:
                values[slot] = None
        results = [values[slot] for slot in self.program.outputs]
        self.arenas.append(arena)
        return [
            value.copy() if copied and isinstance(value, np.ndarray) else value
            for value, copied in zip(results, self.copied, strict=True)
        ]


def overwritten(step, note, notes, static, groups, ends, outside, i):
    """The input whose memory the result may take: nobody reads it afterwards, and no other input shares it."""
    for place in step.over:
        if place >= len(step.sources) or not step.sources[place]:
            continue
        source = step.sources[place]
        seen = notes.get(source)
        root = groups.of(source)
        if seen is None or source not in static or root in outside or ends.get(root) != i:
            continue
        sharing = [s for s in step.sources + step.captured if s and groups.of(s) == root]
        if len(sharing) == 1 and seen.contiguous and (seen.shape, seen.dtype) == (note.shape, note.dtype):
            return source
    return None


class Block:
    """A piece of the arena, from the step that writes it to the last that reads it."""

    def __init__(self, note, begin, end):
        self.note, self.begin, self.end = note, begin, end
        self.size = -(-note.nbytes // 64) * 64
        self.offset = 0


def place(blocks):
    """Give every block an offset, large ones first, each in the smallest gap between those that live with it; returns
    the size of the arena."""
    done: list[Block] = []
    for block in sorted(blocks, key=lambda b: -b.size):
        beside = sorted(
            (b for b in done if b.begin <= block.end and block.begin <= b.end and b.size), key=lambda b: b.offset
        )
        at, best = 0, None
        for b in beside:
            gap = b.offset - at
            if gap >= block.size and (best is None or gap < best[0]):
                best = gap, at
            at = max(at, b.offset + b.size)
        block.offset = at if best is None else best[1]
        done.append(block)
    return max((b.offset + b.size for b in blocks), default=0)
