"""The process's random numbers: where dropout's masks come from if a call does not say.

A `Generator` is a seed and a count of calls. Kernels draw the numbers of a call from (seed, number of the call) by a
counter-based generator (`fastnn.ops.dropout`), so that there is no other state, and two calls never share numbers.

In one thread, the same calls in the same order draw the same numbers after `manual_seed`, at any `set_num_threads`.
Python threads that draw at once from one generator, such as the process-wide one, get different numbers each, but which
ones depends on who comes first. Where a thread's numbers are to be the same in every run, give it a Generator of its
own: `F.dropout(x, generator=…)`, `init.normal_(…, generator=…)`.
"""

import os
from operator import index
from threading import Lock

import numpy as np

__all__ = ["Generator", "default_generator", "get_rng_state", "manual_seed", "set_rng_state"]

# torch's as well: without manual_seed, two runs of a program give the same.
DEFAULT_SEED = 67280421310721


lock = Lock()
"""For the time in which a Generator changes: of all of them, so that they need nothing that cannot be pickled."""


def _after_fork_in_child():
    """The lock's owner may be a thread of the parent, and not be here. A state is replaced whole, so it is whole."""
    global lock
    lock = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Generator:
    """A source of (seed, offset) pairs, one for every call that draws random numbers. Safe to share between threads.

    seed: an integer; of one that is not in [0, 2^64) the lower 64 bits count.
    """

    def __init__(self, seed=DEFAULT_SEED):
        self.manual_seed(seed)

    def manual_seed(self, seed):
        """Begin anew with a seed; returns the generator. TypeError for what is not an integer."""
        try:
            seed = index(seed) % 2**64
        except TypeError:
            raise TypeError(f"manual_seed: seed must be an integer, got {seed!r}") from None
        with lock:
            self._state = seed, 0
        return self

    def initial_seed(self):
        """The seed it began with."""
        return self._state[0]

    def draw(self):
        """(seed, offset) of the next call; all are different."""
        with lock:
            drawn = seed, offset = self._state
            self._state = seed, (offset + 1) % 2**64
        return drawn

    def get_state(self):
        """The state as an array of two uint64, seed and offset, that can be stored among weights."""
        return np.array(self._state, np.uint64)

    def set_state(self, state):
        """Go on where get_state was called; returns the generator. TypeError or ValueError for any other array."""
        if not isinstance(state, np.ndarray) or state.dtype != np.uint64:
            came = f"an array of {state.dtype}" if isinstance(state, np.ndarray) else type(state).__name__
            raise TypeError(f"set_rng_state: state must be an array of uint64, got {came}")
        if state.shape != (2,):
            raise ValueError(f"set_rng_state: state has shape {state.shape}, expected (2,)")
        with lock:
            self._state = tuple(state.tolist())
        return self


default_generator = Generator()


def numpy_generator(op, generator=None):
    """NumPy's generator of the numbers of one call: Philox, of which the next pair of `generator`, None for the
    process-wide one, is the key. TypeError for another generator."""
    generator = default_generator if generator is None else generator
    if not isinstance(generator, Generator):
        raise TypeError(f"{op}: generator must be a fastnn.Generator, got {type(generator).__name__}")
    from numpy import random  # here because it takes 9 ms

    return random.Generator(random.Philox(key=np.array(generator.draw(), np.uint64)))


def manual_seed(seed):
    """Seed the process-wide generator and return it: the same calls in the same order draw the same numbers."""
    return default_generator.manual_seed(seed)


def get_rng_state():
    """The process-wide generator's state, an array of two uint64, for set_rng_state to go on from."""
    return default_generator.get_state()


def set_rng_state(new_state):
    """Give the process-wide generator a state of get_rng_state, so that a run goes on as it would have."""
    default_generator.set_state(new_state)
