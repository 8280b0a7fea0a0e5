"""The tape: operations that were recorded, and the way back through them. Compiled, because small networks consist of
little else. `fastnn.autograd` says what it is for, and has the rest."""

import inspect
import os
from threading import local

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.object cimport PyObject
from cpython.ref cimport Py_REFCNT
from cython.parallel cimport prange
from libc.stdint cimport uint64_t
from numpy.lib.array_utils import byte_bounds

from fastnn.kernels.runtime cimport Scratch, ceil_div, fnn_add_size, fnn_load_size, scratch, threads_for

from fastnn import ops, tensor_ops

cnp.import_array()

cdef extern from *:
    """
    typedef uint64_t __attribute__((aligned(1), may_alias)) fnn_word; /* wherever it lies */
    """
    ctypedef uint64_t fnn_word

cdef enum:
    LANES = 32
    MULTIPLIER = 0x9E3779B1  # odd: no bit is lost
    PART = 1 << 18           # bytes

cdef object FREED = object()
cdef Py_ssize_t places = 0      # nodes that were made, in all threads
cdef dict OPS = {}
cdef type Tensor = None


def results_are(type cls):
    """Results are Tensors of this class, a subclass of Variable."""
    global Tensor
    Tensor = cls


class Mode(local):
    """Of a thread."""

    recording = True
    """Are operations recorded?"""

    observer = None
    """Who is told of operations; see observe."""

    forwards = 0
    """How many `forward` of Modules are running, within each other; in these, Modules make Tensors of arrays."""


mode = Mode()
cdef Py_ssize_t observers = 0  # in all threads: while there is none, no operation has to ask


def observe(observer):
    """Tell an object, or nobody with None, of the operations of this thread from now on, on arrays and on Tensors:

        observer.called(forward, args, options, results)    after each, with the arguments of `call`
        observer.overwritten(target, source)                a Tensor took over the data of another one

    Returns who was told before."""
    before, mode.observer = mode.observer, observer
    fnn_add_size(&observers, (observer is not None) - (before is not None))
    return before


cdef Py_ssize_t expected_symbols = 0


def expect_symbols(Py_ssize_t change):
    """From now on (1), or no longer (-1), there may be Tensors without data among the arguments of operations in any
    thread. Their class has a method that is called instead: applied(forward, args, options)."""
    fnn_add_size(&expected_symbols, change)


cdef symbol_in(value):
    """Such a Tensor among arguments, also in lists; None if there is none."""
    if isinstance(value, Variable):
        return value if hasattr(type(value), "applied") else None
    for x in value if isinstance(value, (list, tuple)) else ():
        found = symbol_in(x)
        if found is not None:
            return found
    return None


cdef tell(forward, tuple args, dict options, results):
    """An operation of this thread is over."""
    observer = mode.observer
    if observer is not None:
        observer.called(forward, args, options, results)


cdef class Version:
    """Counts the changes in place of memory that one or several Tensors share, and knows where they were."""

    cdef readonly Py_ssize_t count
    cdef public bint viewed
    """Do other Tensors show parts of the memory, and follow from it on the tape?"""
    cdef public bint exposed
    """Was the ndarray handed out, so that it may have been written to unseen?"""
    cdef size_t low, high

    def increment(self, cnp.ndarray array):
        """Elements of `array` were changed."""
        cdef size_t low, high
        bounds(array, &low, &high)
        self.low, self.high = (min(low, self.low), max(high, self.high)) if self.count else (low, high)
        self.count += 1

    def __reduce__(self):  # a copy's memory lies elsewhere
        return Version, ()

    cdef bint changed(self, ctx):
        """Was an array of a context changed?"""
        cdef size_t low, high
        for array in arrays_in(ctx):
            bounds(array, &low, &high)
            if low < self.high and self.low < high:
                return True
        return False


cdef int bounds(cnp.ndarray array, size_t *low, size_t *high) except -1:
    """The addresses that an array's elements lie between. NumPy's byte_bounds takes a microsecond, and an optimiser's
    step asks for each parameter."""
    if cnp.PyArray_IS_C_CONTIGUOUS(array):
        low[0] = <size_t>cnp.PyArray_DATA(array)
        high[0] = low[0] + cnp.PyArray_NBYTES(array)
    else:
        low[0], high[0] = byte_bounds(array)
    return 0


def arrays_in(value):
    """All arrays with elements in a context."""
    if isinstance(value, np.ndarray):
        if value.size:
            yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from arrays_in(each)


@cython.final
cdef class Op:
    """How to differentiate a forward function, <op>_forward."""

    cdef readonly str name
    cdef object backward
    cdef dict places
    """Position and name of each differentiable argument -> number of its gradient."""
    cdef Py_ssize_t gradients
    cdef Py_ssize_t outputs
    """How many leading results have a gradient; 0: all, as many as there are."""
    cdef bint takes_needs
    cdef bint view
    """Results show the memory of the first argument."""
    cdef bint fresh
    """Gradients are arrays of their own, as those of fastnn.ops are; else they may be dy, or show its memory."""

    def __init__(self, forward):
        """From the registry; or from the marks of tensor_ops."""
        self.name = forward.__name__.removesuffix("_forward")
        self.fresh = forward not in tensor_ops.PAIRS
        if self.fresh:
            # Imported when it is needed: specs are mostly test cases, and no call on arrays reads them.
            from fastnn.registry import specs
            spec = specs().get(self.name)
            if spec is None or getattr(ops, forward.__name__, None) is not forward:
                raise TypeError(f"{self.name}: {forward!r} is not the forward function of a registered operator")
            grads, self.outputs, self.view = spec.grads, spec.outputs, False
            self.backward = getattr(ops, f"{self.name}_backward", None)
        else:
            self.backward, grads, self.outputs, self.view = tensor_ops.PAIRS[forward]
        parameters = list(inspect.signature(forward).parameters)
        self.gradients = len(grads)
        self.places = {name: k for k, name in enumerate(grads)}
        self.places |= {parameters.index(name): k for k, name in enumerate(grads)}
        self.takes_needs = self.gradients and "needs" in inspect.signature(self.backward).parameters


cdef Op op_of(forward):
    op = OPS.get(forward)
    if op is None:
        op = OPS.setdefault(forward, Op(forward))
    return <Op>op


cdef class Variable:
    """The fields of a Tensor."""

    cdef public cnp.ndarray array
    cdef public object grad
    """An ndarray, or None."""
    cdef public bint tracked
    """Does it require a gradient?"""
    cdef public Node node
    """What made it, and as which of its results; None: a leaf."""
    cdef public Py_ssize_t number
    cdef public Version versions
    cdef object __weakref__


cdef uint64_t mark_of(const unsigned char *bytes, Py_ssize_t nbytes) noexcept nogil:
    """A polynomial in each of LANES lanes of words, and of these. Faster than memory."""
    cdef uint64_t lanes[LANES]
    cdef uint64_t total = 0
    cdef const fnn_word *words = <const fnn_word *>bytes
    cdef Py_ssize_t i, lane, rows = nbytes // (LANES * sizeof(uint64_t))
    for lane in range(LANES):
        lanes[lane] = lane + 1
    for i in range(rows):
        for lane in range(LANES):
            lanes[lane] = lanes[lane] * MULTIPLIER + words[i * LANES + lane]
    for lane in range(LANES):
        total = total * MULTIPLIER + lanes[lane]
    for i in range(rows * LANES * <Py_ssize_t>sizeof(uint64_t), nbytes):
        total = total * MULTIPLIER + bytes[i]
    return total


cdef uint64_t fingerprint(cnp.ndarray array):
    """64 bits of an array's bytes, and other ones, all but surely, once a byte has changed: the polynomial of the marks
    of its parts, which threads share."""
    cdef cnp.ndarray contiguous = np.ascontiguousarray(array)
    cdef const unsigned char *bytes = <const unsigned char *>cnp.PyArray_DATA(contiguous)
    cdef Py_ssize_t nbytes = contiguous.nbytes, parts = ceil_div(nbytes, PART), i
    cdef Scratch room = scratch(parts * sizeof(uint64_t))
    cdef uint64_t *marks = <uint64_t *>room.ptr
    cdef uint64_t total = 0
    for i in prange(parts, nogil=True, num_threads=threads_for(nbytes // 4, nbytes), schedule="static"):
        marks[i] = mark_of(bytes + i * PART, min(PART, nbytes - i * PART))
    for i in range(parts):
        total = total * MULTIPLIER + marks[i]
    return total


@cython.final
cdef class Form:
    """What was made of an array, and how to tell that it is the same. Never changed, so that threads may share it."""

    cdef object made
    cdef cnp.ndarray array
    cdef Py_ssize_t at
    """Its version's count."""
    cdef uint64_t mark


@cython.final
cdef class Prepared:
    """make(array) of a Variable's array, such as packed filters, kept until the array changes.

    The Variable then has another array, or its version says so. If the array was handed out, or somebody else holds
    it, it may have been written to unseen: then a fingerprint of its bytes is compared as well. Safe to share between
    threads.
    """

    cdef object make
    cdef Form form

    def __init__(self, make):
        self.make = make

    def clear(self):
        """Give the memory back."""
        self.set(None)

    cdef Form get(self):
        with cython.critical_section(self):
            return self.form

    cdef set(self, Form form):
        with cython.critical_section(self):
            self.form = form

    def of(self, Variable variable):
        """The prepared form of the array as it is now."""
        cdef cnp.ndarray array = variable.array
        cdef Version versions = variable.versions
        cdef Py_ssize_t at = versions.count
        cdef Form form = self.get(), other
        cdef bint found = form is not None and array is form.array
        cdef bint same = found and at == form.at
        # References: the Variable, maybe a Form, and the local name.
        cdef bint held = Py_REFCNT(array) > 2 + found or array.base != NULL
        cdef uint64_t mark
        if same and not versions.exposed and not held:
            return form.made
        versions.exposed = held  # who holds it now may write to it, and let go of it before the next call
        mark = fingerprint(array)  # first, so that what changes it meanwhile shows
        if same and mark == form.mark:
            return form.made
        other = Form.__new__(Form)
        other.array, other.at, other.mark, other.made = array, at, mark, self.make(array)
        self.set(other)
        return other.made

    def __reduce__(self):  # copies begin with nothing
        return Prepared, (self.make,)


@cython.final
@cython.trashcan(True)  # a chain of any length is freed without recursion
cdef class Node:
    """An operation that was recorded. Nodes refer to those that made their arguments, and to leaves, but not to
    Tensors in between: these are freed as the program drops them, and there are no cycles."""

    cdef Op op
    cdef object ctx
    cdef list edges
    """For each gradient (Node and number of its result, or leaf and 0), None if not needed, or a list of these."""
    cdef tuple needs
    cdef Py_ssize_t outputs
    cdef list saved
    """Version and its count at that time, of each Tensor that took part."""
    cdef public list retained
    """(number of a result, weak reference to its Tensor) of those that want their gradient kept."""
    cdef readonly Py_ssize_t place
    """Later nodes have larger ones."""

    @property
    def name(self):
        return self.op.name

    cdef int check(self) except -1:
        """RuntimeError unless a backward pass through the operation is possible."""
        cdef Version version
        if self.ctx is FREED:
            raise RuntimeError(
                f"backward: the graph was freed at {self.op.name} by an earlier backward, "
                "expected retain_graph=True there"
            )
        for version, at in self.saved:
            if version.count != at and version.changed(self.ctx):
                raise RuntimeError(
                    f"backward: {self.op.name} needs a value that was changed in place after it was used, "
                    f"it is at version {version.count}, expected {at}"
                )

    cdef free(self):
        self.ctx, self.edges, self.saved = FREED, [], []


# ---- forward ----


cdef extern from *:
    ctypedef struct PyMethodDef:
        const char *ml_name
        void *ml_meth
        int ml_flags
        const char *ml_doc
    int METH_FASTCALL
    int METH_KEYWORDS
    size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    object PyCFunction_New(PyMethodDef *method, object self)
    object PyObject_Vectorcall(PyObject *function, PyObject **args, size_t nargs, object names)


cdef enum:
    FEW = 32

cdef dict with_keep = {}
cdef object KEEP = False  # as an object: Cython takes the literal for a C integer


cdef object fast_call(PyObject *self, PyObject **args, Py_ssize_t nargs, PyObject *names):
    """`call` as CPython calls C functions, without a tuple and a dictionary of arguments: with those, it took as long
    as a tiny kernel. names: of the last arguments, a tuple or NULL."""
    cdef Py_ssize_t i, named = 0 if names == NULL else len(<tuple>names)
    cdef PyObject *all_args[FEW]
    cdef tuple plain, extended
    if nargs == 0:
        raise TypeError("call: forward is missing, expected a forward function and its arguments")
    for i in range(1, nargs + named):
        if isinstance(<object>args[i], Variable) or holds_variable(<object>args[i]):
            break
        if i < FEW:
            all_args[i] = args[i]
    else:
        if nargs + named < FEW:
            plain = <tuple>names if named else ()
            extended = with_keep.get(plain)
            if extended is None:
                extended = with_keep.setdefault(plain, plain + ("keep",))
            all_args[nargs + named] = <PyObject *>KEEP
            results = PyObject_Vectorcall(
                args[0], all_args + 1, (nargs - 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, extended
            )[0]
            if fnn_load_size(&observers):
                tell(<object>args[0], positional(args, nargs), by_name(args, nargs, names), results)
            return results
    return apply(<object>args[0], positional(args, nargs), by_name(args, nargs, names))


cdef tuple positional(PyObject **args, Py_ssize_t nargs):
    """The arguments of `call` behind the function, without those given by name."""
    return tuple([<object>args[i] for i in range(1, nargs)])


cdef dict by_name(PyObject **args, Py_ssize_t nargs, PyObject *names):
    """The arguments of `call` that were given by name."""
    return {} if names == NULL else {name: <object>args[nargs + i] for i, name in enumerate(<tuple>names)}


cdef PyMethodDef call_method
call_method.ml_name = b"call"
call_method.ml_meth = <void *>fast_call
call_method.ml_flags = METH_FASTCALL | METH_KEYWORDS
call_method.ml_doc = b"""call(forward, /, *args, **options)
--

The results of forward(*args, **options), a forward function of fastnn.ops or tensor_ops: arrays of arrays, and Tensors
if there is a Tensor among the arguments or in a list of them, recorded if one of them requires a gradient.

TypeError for a Tensor that requires a gradient where the operator has none, and for `out` with Tensors."""
call = PyCFunction_New(&call_method, None)


cdef bint holds_variable(x):
    if type(x) is list or type(x) is tuple:
        for each in x:
            if isinstance(each, Variable):
                return True
    return False


cdef class Recording:
    """Where the gradients of an operation's arguments go, as they are collected."""

    cdef Op op
    cdef bint enabled
    cdef bint needed
    cdef list edges
    cdef list saved

    cdef object edge(self, Variable x, place):
        """What Node.edges says of x; None if it requires no gradient."""
        self.saved.append((x.versions, x.versions.count))
        if not (self.enabled and x.tracked and self.op.gradients):
            return None
        if place not in self.op.places:
            what = f"argument {place + 1}" if isinstance(place, int) else place
            raise TypeError(f"{self.op.name}: {what} requires a gradient, and {self.op.name} has none of it; detach it")
        self.needed = True
        return (x, 0) if x.node is None else (x.node, x.number)

    cdef object array(self, x, place):
        """The array of a Tensor, those of a list of them, other things as they are."""
        if isinstance(x, Variable):
            edge = self.edge(x, place)
            if edge is not None:
                self.edges[self.op.places[place]] = edge
            return (<Variable>x).array
        if (type(x) is list or type(x) is tuple) and holds_variable(x):
            edges = [self.edge(each, place) if isinstance(each, Variable) else None for each in x]
            if any(edges):
                self.edges[self.op.places[place]] = edges
            return [(<Variable>each).array if isinstance(each, Variable) else each for each in x]
        return x


cdef apply(forward, tuple args, dict options):
    """`call` with Tensors among the arguments."""
    if fnn_load_size(&expected_symbols):
        symbol = symbol_in(args + tuple(options.values()))
        if symbol is not None:
            return symbol.applied(forward, args, options)
    cdef Recording recording = Recording.__new__(Recording)
    cdef Op op = op_of(forward)
    cdef Node node = None
    cdef Py_ssize_t i
    recording.op, recording.enabled = op, mode.recording
    recording.edges, recording.saved = [None] * op.gradients, []
    arrays = [recording.array(args[i], i) for i in range(len(args))]
    named = {name: recording.array(x, name) for name, x in options.items()}
    if named.get("out") is not None:
        raise TypeError(f"{op.name}: out is given, expected None with Tensors")
    needs = tuple([edge is not None for edge in recording.edges])
    named["keep"] = False if not recording.needed else True if op.fresh else needs
    results, ctx = forward(*arrays, **named)
    versions = (<Variable>args[0]).versions if op.view and isinstance(args[0], Variable) else None
    if versions is not None:
        versions.viewed = True
    single = not isinstance(results, (tuple, list))
    if single:
        results = (results,)
    tracked = len(results) if op.outputs == 0 else op.outputs
    if recording.needed:
        node = Node.__new__(Node)
        node.op, node.ctx, node.edges, node.needs, node.outputs = op, ctx, recording.edges, needs, tracked
        node.saved, node.place = recording.saved, fnn_add_size(&places, 1)
    made = [wrap(y, node if i < tracked else None, i, versions) for i, y in enumerate(results)]
    outcome = made[0] if single else tuple(made)
    if fnn_load_size(&observers):
        tell(forward, args, options, outcome)
    return outcome


cdef Variable wrap(y, Node node, Py_ssize_t number, Version versions):
    """A Tensor of a result."""
    cdef Variable tensor = Tensor.__new__(Tensor)
    tensor.array = y if isinstance(y, np.ndarray) else np.asarray(y)  # NumPy makes scalars of 0-d results
    tensor.versions = Version.__new__(Version) if versions is None else versions
    if node is not None:
        tensor.node, tensor.number, tensor.tracked = node, number, True
        node.saved.append((tensor.versions, tensor.versions.count))
    return tensor


# ---- backward ----


cdef list targets(Node node):
    """Nodes that a node's gradients go to."""
    found = []
    for edge in node.edges:
        for each in edge if type(edge) is list else (edge,):
            if each is not None and type(each[0]) is Node:
                found.append(each[0])
    return found


cdef list behind(Node root):
    """All nodes behind one, and itself, latest first: each before those that its gradients go to."""
    found, stack = {root}, [root]
    while stack:
        for node in targets(stack.pop()):
            if node not in found:
                found.add(node)
                stack.append(node)
    return sorted(found, key=place_of, reverse=True)


def place_of(Node node):
    return node.place


cdef cython.pymutex summing


def _begin_sum():
    summing.acquire()


def _end_sum():
    summing.release()


if hasattr(os, "register_at_fork"):  # the child of a fork has no other thread that could let go of it
    os.register_at_fork(before=_begin_sum, after_in_parent=_end_sum, after_in_child=_end_sum)


cpdef accumulate(Variable tensor, cnp.ndarray dx, bint fresh):
    """Add to tensor.grad; from several threads at once, too. fresh: dx belongs to nobody else."""
    with summing:
        if tensor.grad is None:
            tensor.grad = dx if fresh else dx.copy()
        else:
            tensor.grad += dx


def propagate(Node root, Py_ssize_t number, gradient, bint retain_graph):
    """Add to the gradients of all leaves behind result `number` of a node, given its own. Nothing is changed if the
    graph was freed or a value that is needed was overwritten: RuntimeError."""
    cdef Node node
    cdef list nodes = behind(root)
    for node in nodes:
        node.check()
    pending = {root: [None] * root.outputs}
    pending[root][number] = gradient
    with np.errstate(all="ignore"):
        for node in nodes:
            dys = pending.pop(node, None)
            if dys is not None:
                for i, reference in node.retained or ():
                    tensor = reference()
                    if tensor is not None and dys[i] is not None:
                        accumulate(tensor, dys[i], False)
                step(node, dys, pending)
            if not retain_graph:
                node.free()


cdef step(Node node, list dys, dict pending):
    """The backward pass of one operation."""
    cdef Op op = node.op
    dy = dys[0] if op.outputs == 1 else tuple(dys)
    grads = op.backward(dy, node.ctx, node.needs) if op.takes_needs else op.backward(dy, node.ctx)
    if type(grads) is not tuple:
        grads = (grads,)
    for edge, dx in zip(node.edges, grads, strict=True):
        if edge is None:
            continue
        if type(edge) is list:
            for each, d in zip(edge, dx, strict=True):
                if each is not None:
                    deliver(each, d, op.fresh, pending)
        else:
            deliver(edge, dx, op.fresh, pending)


cdef deliver(tuple edge, dx, bint fresh, dict pending):
    """Add the gradient dx to what it is of."""
    target, number = edge
    dx = dx if isinstance(dx, np.ndarray) else np.asarray(dx)
    if isinstance(target, Variable):
        accumulate(target, dx, fresh)
        return
    sums = pending.get(target)
    if sums is None:
        sums = pending[target] = [None] * (<Node>target).outputs
    sums[number] = dx if sums[number] is None else sums[number] + dx
