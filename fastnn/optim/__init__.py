"""Optimisers over the fused steps of `fastnn.ops`, with the names, arguments and defaults of torch.optim.

    optimizer = fastnn.optim.Adam(model.parameters(), lr=1e-3)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

from fastnn.optim.algorithms import SGD, Adam, AdamW, RMSprop
from fastnn.optim.optimizer import Optimizer
from fastnn.optim.state import flatten_state, unflatten_state

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "flatten_state", "unflatten_state"]
