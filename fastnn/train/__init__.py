"""Training: `fit` and what belongs to it.

history = fastnn.train.fit(
    model, (x, y), epochs=10, optimizer=fastnn.optim.Adam(model.parameters(), 1e-3),
    validation_data=(x_valid, y_valid), metrics=["accuracy"],
    early_stopping=fastnn.train.EarlyStopping("val_loss", patience=3, restore_best=True),
    checkpoint="run.safetensors", resume=True,
)
history.plot("curve.png")
"""

from fastnn.train.checkpoint import Checkpoint, load_checkpoint
from fastnn.train.evaluation import evaluate, predict
from fastnn.train.history import Best, History
from fastnn.train.loop import fit
from fastnn.train.metrics import METRICS
from fastnn.train.over_time import gradients_over_time
from fastnn.train.progress import track
from fastnn.train.stopping import EarlyStopping

__all__ = [
    "METRICS",
    "Best",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "evaluate",
    "fit",
    "gradients_over_time",
    "load_checkpoint",
    "predict",
    "track",
]
