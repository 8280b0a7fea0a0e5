"""Optimisers over the fused steps of `fastnn.ops`, and schedules of their learning rates; names, arguments and defaults
are those of torch.optim.

    optimizer = fastnn.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = fastnn.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()  # once an epoch
"""

from fastnn.optim import lr_scheduler
from fastnn.optim.algorithms import SGD, Adam, AdamW, RMSprop
from fastnn.optim.optimizer import Optimizer
from fastnn.optim.state import flatten_state, unflatten_state

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "flatten_state", "lr_scheduler", "unflatten_state"]
