"""Networks of a recurrent layer and a head: a sequence to one result, to a sequence of results, and one input to a
sequence."""

from __future__ import annotations

from fastnn import functional as F
from fastnn.nn.module import Module
from fastnn.nn.options import counts, need_ndim
from fastnn.nn.recurrent import RNNBase
from fastnn.nn.utils.rnn import PackedSequence

__all__ = ["ManyToMany", "ManyToOne", "OneToMany"]


class Form(Module):
    """What they share: rnn, an RNN, GRU or LSTM, and head, a Module or function of its H features."""

    def __init__(self, rnn, head):
        name = type(self).__name__
        if not isinstance(rnn, RNNBase):
            raise TypeError(f"{name}: rnn must be an RNN, GRU or LSTM, got {type(rnn).__name__}")
        if not callable(head):
            raise TypeError(f"{name}: head must be a Module or a function, got {type(head).__name__}")
        self.rnn, self.head = rnn, head


class ManyToOne(Form):
    """head of the last state of the top layer, (N, H), of both directions one after the other if rnn is bidirectional:
    to classify sequences.

    `forward` takes what that of rnn does: input, hx and lengths.
    """

    def forward(self, input, hx=None, *, lengths=None):
        _, state = self.rnn(input, hx, lengths=lengths)
        h = state[0] if isinstance(state, tuple) else state
        return self.head(F.cat([h[-2], h[-1]], -1) if self.rnn.bidirectional else h[-1])


class ManyToMany(Form):
    """head of the output at every time, (T, N, H) or as batch_first says: to label or predict at every time.

    `forward` takes what that of rnn does: input, hx and lengths. Behind a sequence's end stands head of zeros; of a
    PackedSequence, whose data have shape (S, H), one is returned.
    """

    def forward(self, input, hx=None, *, lengths=None):
        y, _ = self.rnn(input, hx, lengths=lengths)
        return y._replace(data=self.head(y.data)) if isinstance(y, PackedSequence) else self.head(y)


class OneToMany(Form):
    """A sequence from one input: head of every output, which feedback turns into the next input: to generate.

    feedback: a Module or function of head's result, (N, D) or what head makes of (N, H); None: it is the next input as
    it is. Gradients pass through what is fed back as far as through feedback.
    """

    def __init__(self, rnn, head, feedback=None):
        super().__init__(rnn, head)
        if rnn.bidirectional:
            raise ValueError("OneToMany: rnn is bidirectional, expected one that needs no input of later times")
        if feedback is not None and not callable(feedback):
            raise TypeError(f"OneToMany: feedback must be a Module, a function or None, got {type(feedback).__name__}")
        self.feedback = feedback

    def forward(self, input, steps, hx=None):
        """The results at so many times, (steps, N, *), (N, steps, *) if rnn is batch_first, of input (N, input_size);
        (steps, *) of input (input_size,). hx: the states at first."""
        need_ndim(self, input, 1, 2)
        counts(self, steps=steps)
        if not steps:
            raise ValueError("OneToMany: steps is 0, expected at least 1")
        time = 1 if self.rnn.batch_first and input.ndim == 2 else 0
        results = []
        while True:
            y, hx = self.rnn(F.stack([input], time), hx)
            results.append(self.head(y[:, 0] if time else y[0]))
            if len(results) == steps:
                return F.stack(results, time)
            input = results[-1] if self.feedback is None else self.feedback(results[-1])
