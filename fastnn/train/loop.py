"""The training loop, and its state between two batches."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from math import isfinite
from time import perf_counter
from typing import Any

import numpy as np

from fastnn import functional as F
from fastnn.autograd import Tensor, enable_grad
from fastnn.descriptors import flag, is_int, number
from fastnn.nn import Module
from fastnn.nn.utils import clip_grad_norm_, clip_grad_value_
from fastnn.optim import Optimizer, flatten_state, unflatten_state
from fastnn.optim.lr_scheduler import ReduceLROnPlateau
from fastnn.random import get_rng_state, set_rng_state
from fastnn.train.batches import as_batches, as_tensor, batches_from, length, pair
from fastnn.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fastnn.train.evaluation import check_model, modes_kept, run_evaluation
from fastnn.train.gradients import GradientStatistics
from fastnn.train.history import History
from fastnn.train.metrics import Means, as_metrics
from fastnn.train.progress import Silent, as_progress
from fastnn.train.stopping import EarlyStopping

__all__ = ["fit"]

EVERY = 50
"""Batches between two measurements of gradients, unless told. One takes a third of the time of a step in a network that
is all Linear, and much less in one with convolutions: below 1 % together."""


def fit(
    model: Module,
    data: Any,
    *,
    optimizer: Optimizer,
    epochs: int = 1,
    loss: Callable[..., Any] = F.cross_entropy,
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int | None = None,
    validation_data: Any = None,
    metrics: Any = None,
    scheduler: Any = None,
    schedule_every: str = "epoch",
    clip_grad_norm: float | None = None,
    clip_grad_value: float | None = None,
    early_stopping: EarlyStopping | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    gradient_statistics: bool | int = False,
    on_nonfinite: str = "raise",
    progress: Any = None,
) -> History:
    """Train a model; returns the History of its epochs.

    data, validation_data: arrays (x, y), or a Dataset, of which a DataLoader makes batches of batch_size, those of data
    shuffled by seed (None: that of fastnn.manual_seed); or an iterable of batches (x, y), such as a DataLoader or a
    list, that can be gone through once an epoch. Its `set_epoch(epoch)`, from 0, is called if it has one. epochs: how
    many in all, those before `resume` included.

    loss: loss(output, y) -> Tensor of one element, the mean of the batch's samples. metrics: a name of
    fastnn.train.METRICS, such as "accuracy", or a function of output and y, ndarrays, that returns the mean of the
    samples, or a pair (sum, count); a list of these, or a dict name -> one. Means over an epoch weigh batches by their
    samples; those of training are taken on the way, while weights change.

    scheduler: its step() is called every "epoch", behind the validation, or every "batch" (schedule_every);
    ReduceLROnPlateau gets the validation loss, or the training loss if there is none.
    clip_grad_norm, clip_grad_value: bounds of the norm of all gradients together, and of each element's magnitude.

    early_stopping: see EarlyStopping. gradient_statistics: n measures the gradients of each layer every n batches,
    from the first on, for History.gradients, before clipping; True is 50.

    checkpoint: a file that is replaced after every epoch, and after every checkpoint_every batches. resume: go on from
    it, if it exists: the run then ends with the weights, bit for bit, and the History, except for "seconds", of one
    that was never interrupted, provided that it is called with the same arguments, and that batches are the same in
    every run. A loader that is not a function of the epoch offers state_dict() and load_state_dict(), JSON.

    on_nonfinite: "raise" a FloatingPointError at a loss that is NaN or infinite, before the step; or "ignore" it.
    progress: None shows a bar if standard output is a terminal, else a line an epoch; False shows nothing; a stream is
    used likewise; a function is called with the record of each epoch, a dict.

    Ctrl-C ends the run after the present batch: the History so far is returned, with stopped = "interrupted", and the
    checkpoint, if there is one, is written at that batch. A second one raises KeyboardInterrupt at once. Whatever
    happens, all parts of the model are left in the mode in which they were.

    TypeError or ValueError for wrong arguments, before anything is changed; ValueError for a checkpoint that is damaged
    or of another run, likewise.
    """
    run = Run(model, data, validation_data, loss, optimizer, as_metrics(metrics, "fit"), batch_size, shuffle, seed)
    run.set_schedule(scheduler, schedule_every)
    run.set_clipping(clip_grad_norm, clip_grad_value)
    run.set_statistics(gradient_statistics)
    run.set_stopping(early_stopping)
    run.set_checkpoint(checkpoint, checkpoint_every)
    resume = flag(resume, "fit", "resume")
    if not is_int(epochs):
        raise TypeError(f"fit: epochs must be an integer, got {epochs!r}")
    if epochs < 0:
        raise ValueError(f"fit: epochs is {epochs}, expected at least 0")
    if on_nonfinite not in ("raise", "ignore"):
        raise ValueError(f"fit: on_nonfinite is {on_nonfinite!r}, expected 'raise' or 'ignore'")
    run.strict = on_nonfinite == "raise"
    run.progress = as_progress(progress, "fit")
    if resume and run.path is None:
        raise ValueError("fit: resume is True and checkpoint is None, expected the path of a file")
    if early_stopping is not None:
        early_stopping.reset()
    if resume and os.path.exists(run.path):
        run.restore(load_checkpoint(run.path))
    run.train(epochs)
    return run.history


class Interrupted(KeyboardInterrupt):
    """Ctrl-C was noted, and the run is between two batches."""


class Interruption:
    """Notes Ctrl-C, so that a batch is not torn in the middle of the optimiser's step; the second one is an exception.
    In threads other than the main one, or if the program handles the signal itself, nothing is changed."""

    asked = False

    def __enter__(self):
        main = threading.current_thread() is threading.main_thread()
        self.ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self.ours:
            signal.signal(signal.SIGINT, self.note)
        return self

    def __exit__(self, *exception):
        if self.ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def note(self, number, frame):
        self.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Run:
    """A run of `fit`. Its state between two batches is what `save` writes and `restore` puts back."""

    strict: bool
    """Is a loss that is NaN or infinite an error?"""
    progress: Silent
    scheduler: Any = None
    batch_scheduler: Any = None
    epoch_scheduler: Any = None
    statistics: GradientStatistics | None = None
    stopping: EarlyStopping | None = None
    path: Any = None

    def __init__(self, model, data, validation_data, loss, optimizer, metrics, batch_size, shuffle, seed) -> None:
        check_model(model, "fit")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"fit: optimizer must be an Optimizer, got {type(optimizer).__name__}")
        if not callable(loss):
            raise TypeError(f"fit: loss must be a function of output and target, got {loss!r}")
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        own = {id(p): p for p in model.parameters()}
        if not own.keys() & set(map(id, self.parameters)):
            raise ValueError("fit: optimizer has none of the model's parameters, expected model.parameters()")
        self.all_parameters = list((own | {id(p): p for p in self.parameters}).values())
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.batches = as_batches(data, "fit", "data", batch_size, shuffle, seed)
        self.validation = None
        if validation_data is not None:
            self.validation = as_batches(validation_data, "fit", "validation_data", batch_size)
        self.means, self.validation_means = Means(metrics), Means(metrics)
        self.history = History()
        self.epoch = self.batch = self.step = 0
        """Epochs that are finished, batches of the present one, batches of all epochs."""
        self.seconds = 0.0
        """Of the present epoch."""
        self.resumed_rng: np.ndarray | None = None
        self.loader_state = self.position()

    # ---- arguments ----

    def set_schedule(self, scheduler: Any, every: str) -> None:
        """Check and take over fit's scheduler and schedule_every."""
        if every not in ("epoch", "batch"):
            raise ValueError(f"fit: schedule_every is {every!r}, expected 'epoch' or 'batch'")
        if scheduler is not None and not hasattr(scheduler, "step"):
            raise TypeError(f"fit: scheduler must have a method step, got {type(scheduler).__name__}")
        if getattr(scheduler, "optimizer", self.optimizer) is not self.optimizer:
            raise ValueError("fit: scheduler belongs to another optimizer")
        self.plateau = isinstance(scheduler, ReduceLROnPlateau)
        if self.plateau and every == "batch":
            raise ValueError("fit: schedule_every is 'batch', expected 'epoch' for ReduceLROnPlateau")
        self.scheduler = scheduler
        self.batch_scheduler = scheduler if every == "batch" else None
        self.epoch_scheduler = scheduler if every == "epoch" else None

    def set_clipping(self, norm: float | None, value: float | None) -> None:
        """Likewise clip_grad_norm and clip_grad_value."""
        for name, bound in (("clip_grad_norm", norm), ("clip_grad_value", value)):
            if bound is not None and not number(bound, "fit", name) > 0:
                raise ValueError(f"fit: {name} is {bound}, expected a number above 0")
        self.clip_norm, self.clip_value = norm, value

    def set_statistics(self, every: bool | int) -> None:
        """Likewise gradient_statistics."""
        if not isinstance(every, bool | np.bool) and not is_int(every):
            raise TypeError(f"fit: gradient_statistics must be True, False or an integer, got {every!r}")
        if every < 0:
            raise ValueError(f"fit: gradient_statistics is {every}, expected at least 0")
        every = EVERY if every is True else int(every)
        self.statistics = GradientStatistics(self.model, every) if every else None

    def names(self) -> list[str]:
        """What a record of the History consists of, in its order."""
        kinds = ["loss", *self.means.metrics]
        return [
            "epoch",
            *kinds,
            *(["grad_norm"] if self.clip_norm is not None else []),
            *([f"val_{name}" for name in kinds] if self.validation is not None else []),
            *self.rates(),
            "seconds",
        ]

    def set_stopping(self, stopping: EarlyStopping | None) -> None:
        """Likewise early_stopping."""
        if stopping is not None and not isinstance(stopping, EarlyStopping):
            raise TypeError(f"fit: early_stopping must be an EarlyStopping, got {type(stopping).__name__}")
        if stopping is not None and stopping.monitor not in self.names():
            raise ValueError(
                f"fit: early_stopping watches {stopping.monitor!r}, expected one of {', '.join(self.names())}"
                + (", as validation_data is None" if self.validation is None else "")
            )
        self.stopping = stopping

    def set_checkpoint(self, path: Any, every: int | None) -> None:
        """Likewise checkpoint and checkpoint_every."""
        if every is not None and not is_int(every):
            raise TypeError(f"fit: checkpoint_every must be an integer or None, got {every!r}")
        if every is not None and every < 1:
            raise ValueError(f"fit: checkpoint_every is {every}, expected at least 1")
        if every is not None and path is None:
            raise ValueError("fit: checkpoint_every is given and checkpoint is None, expected the path of a file")
        self.save_every = every
        if path is None:
            return
        if not isinstance(path, str | bytes | os.PathLike):
            raise TypeError(f"fit: checkpoint must be the path of a file or None, got {path!r}")
        self.path = os.fsdecode(path)
        folder = os.path.dirname(os.path.abspath(self.path))
        if not os.path.isdir(folder):
            raise ValueError(f"fit: checkpoint is {self.path!r}, expected a folder {folder!r} that exists")
        if self.scheduler is not None and not hasattr(self.scheduler, "state_dict"):
            raise TypeError("fit: scheduler has no state_dict, expected one for a checkpoint")
        try:  # now, not after the first epoch
            json.dumps([self.loader_state, self.scheduler and self.scheduler.state_dict()])
        except (TypeError, ValueError) as error:
            raise TypeError(f"fit: the state_dict of data or scheduler is no JSON, for a checkpoint: {error}") from None

    # ---- the loop ----

    def train(self, epochs: int) -> None:
        """All epochs that are left."""
        with Interruption() as self.interruption, modes_kept(self.model), enable_grad():
            try:
                while self.epoch < epochs and self.history.stopped is None:
                    self.train_epoch(epochs)
                    self.end_epoch(epochs)
            except Interrupted:
                self.history.stopped = "interrupted"
            except KeyboardInterrupt:
                if self.interruption.asked:  # the second one
                    raise
                self.history.stopped = "interrupted"
            finally:
                self.progress.close()
        if self.stopping is not None and self.stopping.best_state is not None:
            self.model.load_state_dict(self.stopping.best_state)

    def train_epoch(self, epochs: int) -> None:
        """The batches that are left of the present epoch."""
        model, optimizer, loss_of, means = self.model, self.optimizer, self.loss, self.means
        statistics, progress = self.statistics, self.progress
        start, before = perf_counter(), self.seconds
        model.train()
        batches = batches_from(self.batches, self.epoch, self.batch)
        if self.resumed_rng is not None:  # behind the batches that were passed over, which may have drawn numbers
            set_rng_state(self.resumed_rng)
            self.resumed_rng = None
        progress.begin(f"epoch {self.epoch + 1}/{epochs}", length(self.batches), self.batch)
        for batch in batches:
            x, y = pair(batch, "fit")
            output = model(as_tensor(x, "fit"))
            loss = loss_of(output, y)
            if not isinstance(loss, Tensor) or loss.size != 1:
                came = f"a Tensor of shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
                raise TypeError(f"fit: loss must return a Tensor of one element, got {came}")
            value = loss.item()
            if self.strict and not isfinite(value):
                raise FloatingPointError(self.diagnosis(value, x))
            for p in self.all_parameters:
                p.grad = None
            loss.backward()
            measured = statistics if statistics is not None and statistics.due(self.step + 1) else None
            if measured is not None:
                measured.before()
            if self.clip_norm is not None:
                means.add("grad_norm", clip_grad_norm_(self.parameters, self.clip_norm), 1)
            if self.clip_value is not None:
                clip_grad_value_(self.parameters, self.clip_value)
            optimizer.step()
            if self.batch_scheduler is not None:
                self.batch_scheduler.step()
            self.step += 1
            self.batch += 1
            if measured is not None:
                self.history.append_gradients(self.step, measured.after())
            means.update(value, output, y, len(x))
            progress.batch(means.values)
            self.seconds = before + perf_counter() - start
            if self.save_every is not None and self.batch % self.save_every == 0:
                self.save()
            self.check_interruption()
        if not self.batch:
            raise ValueError("fit: data has no batches, expected at least one")

    def check_interruption(self) -> None:
        """End the run here if Ctrl-C was pressed."""
        if self.interruption.asked:
            if self.path is not None:
                self.save()
            raise Interrupted

    def end_epoch(self, epochs: int) -> None:
        """Validation, the record of the epoch, schedule, early stopping, checkpoint."""
        start, before = perf_counter(), self.seconds
        record = {"epoch": self.epoch + 1, **self.means.values()}
        if self.validation is not None:
            means = self.validation_means
            means.reset()
            batches = batches_from(self.validation, self.epoch)
            self.progress.begin(f"epoch {self.epoch + 1}/{epochs} validation", length(self.validation))

            def after_batch() -> None:
                self.progress.batch(means.values)
                self.check_interruption()

            run_evaluation(self.model, batches, self.loss, means, "fit", after_batch)
            if not means.sums["loss"][1]:
                raise ValueError("fit: validation_data has no samples, expected at least one")
            record |= means.values("val_")
        record |= self.rates()
        record["seconds"] = before + perf_counter() - start
        self.history.append(record)
        if self.plateau:
            self.epoch_scheduler.step(record["val_loss" if self.validation is not None else "loss"])
        elif self.epoch_scheduler is not None:
            self.epoch_scheduler.step()
        if self.stopping is not None and self.stopping.update(record, self.model.state_dict):
            self.history.stopped = "early_stopping"
        self.epoch, self.batch, self.seconds = self.epoch + 1, 0, 0.0
        self.means.reset()
        self.loader_state = self.position()
        if self.path is not None:
            self.save()
        self.progress.epoch(record, epochs)
        if self.history.stopped is None and self.epoch < epochs:
            self.check_interruption()

    def rates(self) -> dict[str, float]:
        """The learning rate of each group by its name in the History."""
        groups = self.optimizer.param_groups
        return {f"lr_{i}" if i else "lr": float(group["lr"]) for i, group in enumerate(groups)}

    def diagnosis(self, value: float, x: Any) -> str:
        """What is known of a loss that is no number, and what may help."""
        spoilt = [name for name, p in self.model.named_parameters() if not np.isfinite(p.array).all()]
        x = x.array if isinstance(x, Tensor) else x
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            found = "x of this batch has NaN or infinite values: look at the data"
        elif spoilt:
            found = f"the weights have NaN or infinite values ({', '.join(spoilt[:3])}{', …' if spoilt[3:] else ''})"
        else:
            found = "x and the weights are finite"
        return (
            f"fit: the loss is {value} in epoch {self.epoch + 1}, batch {self.batch + 1}; {found}. Try a smaller "
            f"learning rate (now {self.optimizer.param_groups[0]['lr']:g}), clip_grad_norm=1.0, or inputs scaled to "
            "about unit variance; on_nonfinite='ignore' goes on regardless"
        )

    # ---- storage ----

    def position(self) -> Any:
        """The state of a loader that has one, at the beginning of an epoch."""
        return self.batches.state_dict() if hasattr(self.batches, "state_dict") else None

    def save(self) -> None:
        """Write the checkpoint."""
        arrays, options = flatten_state(self.optimizer.state_dict())
        stopping, scheduler = self.stopping, self.scheduler
        state = {
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "seconds": self.seconds,
            "sums": self.means.sums,
            "names": self.names(),
            "loader": self.loader_state,
            "history": self.history.to_dict(),
            "optimizer": {"class": type(self.optimizer).__name__, **options},
            "scheduler": scheduler and {"class": type(scheduler).__name__, "state": scheduler.state_dict()},
            "early_stopping": stopping and stopping.state_dict(),
        }
        best = (stopping.best_state if stopping else None) or {}
        save_checkpoint(self.path, Checkpoint(self.model.state_dict(), arrays, best, get_rng_state(), state))

    def restore(self, found: Checkpoint) -> None:
        """Go on from a checkpoint. ValueError, with all as it was, if it is of another run or damaged."""
        undo: list[Callable[[], Any]] = []
        try:
            self.take_over(found, undo)
        except KeyError as error:
            failure = f"{error} is missing"
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            failure = str(error)
        else:
            return
        for step in reversed(undo):
            step()
        raise ValueError(f"fit: {self.path}: cannot resume from this checkpoint: {failure}")

    def take_over(self, found: Checkpoint, undo: list[Callable[[], Any]]) -> None:
        """What restore does; undo gets what takes back each change outside of the run."""
        state = found.state
        optimizer, scheduler, stopping = state["optimizer"], state["scheduler"], state["early_stopping"]
        same("optimizer", optimizer["class"], type(self.optimizer).__name__)
        same("scheduler", scheduler and scheduler["class"], self.scheduler and type(self.scheduler).__name__)
        same("early_stopping", stopping is not None, self.stopping is not None)
        own = self.model.state_dict()
        for name, x in (*found.model.items(), *found.best.items()):
            if name in own and x.dtype != own[name].dtype:
                raise ValueError(f"{name} has dtype {x.dtype}, expected {own[name].dtype}")
        if bool(found.best) != bool(stopping and stopping["restore_best"] and stopping["best_epoch"]):
            raise ValueError("the weights of the best epoch are there or missing, contrary to early_stopping")
        history = History.from_dict(state["history"])
        counts = [state[name] for name in ("epoch", "batch", "step")]
        sums = {name: [float(total), float(count)] for name, (total, count) in state["sums"].items()}
        if not all(is_int(n) and n >= 0 for n in counts) or len(history) != state["epoch"]:
            raise ValueError(f"epoch, batch and step are {counts} and the history has {len(history)} epochs")
        batches = length(self.batches)
        if batches is not None and state["batch"] > batches:
            raise ValueError(f"batch is {state['batch']}, expected at most {batches}, the batches of an epoch")
        seconds = float(state["seconds"])

        rng = get_rng_state()
        undo.append(lambda: set_rng_state(rng))
        set_rng_state(found.rng)
        if self.stopping is not None:
            undo.append(self.stopping.reset)
            self.stopping.load_state_dict(stopping, found.best or None)
        weights = {name: x.copy() for name, x in own.items()}
        undo.append(lambda: self.model.load_state_dict(weights))
        if found.best:
            self.model.load_state_dict(found.best)
        self.model.load_state_dict(found.model)
        options = self.optimizer.state_dict()
        undo.append(lambda: self.optimizer.load_state_dict(options))
        self.optimizer.load_state_dict(unflatten_state(found.optimizer, optimizer))
        same("the History's names", state["names"], self.names())
        if len(history):
            same("the History's names", sorted(history), sorted(self.names()))
        if self.scheduler is not None:
            schedule = self.scheduler.state_dict()
            undo.append(lambda: self.scheduler.load_state_dict(schedule))
            self.scheduler.load_state_dict(scheduler["state"])
        if self.loader_state is not None or state["loader"] is not None:
            self.batches.load_state_dict(state["loader"])
        self.epoch, self.batch, self.step = counts
        self.seconds, self.history, self.loader_state = seconds, history, state["loader"]
        self.means.reset(sums)
        self.resumed_rng = found.rng


def same(what: str, stored: Any, own: Any) -> None:
    """ValueError unless the checkpoint agrees with the arguments."""
    if stored != own:
        raise ValueError(f"{what}: it has {stored!r}, expected {own!r}")
