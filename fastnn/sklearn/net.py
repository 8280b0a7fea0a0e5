"""Estimators of any fastnn.nn.Module."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_random_state, validate_data

from fastnn import functional as F
from fastnn import optim, train
from fastnn.nn import Module
from fastnn.sklearn.options import boolean, check, integer, keep, real
from fastnn.sklearn.runs import Samples, Weighted, asked_for, in_memory, like_target, seeded, unweighted
from fastnn.sklearn.targets import Labels

__all__ = ["NetClassifier", "NetRegressor"]

OPTIMIZERS = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": optim.SGD, "rmsprop": optim.RMSprop}

CLASS_LOSSES: dict[str, Any] = {
    "cross_entropy": (F.cross_entropy, lambda z: F.log_softmax(z, dim=1)),
    "nll_loss": (F.nll_loss, lambda z: z),
    "binary_cross_entropy_with_logits": (
        F.binary_cross_entropy_with_logits,
        lambda z: -F.softplus(-z, threshold=40.0),
    ),
}
"""Loss, and logarithms of probabilities of the outputs, by the loss's name."""

NUMBER_LOSSES: dict[str, Any] = {f.__name__: f for f in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss)}

RULES = {
    "lr": real(0, ends="()"),
    "epochs": integer(1),
    "batch_size": integer(1),
    "shuffle": boolean,
    "validation_fraction": real(0, 1, "()"),
    "warm_start": boolean,
    "verbose": boolean,
}


class BaseNet(BaseEstimator):
    """What classifier and regressor have in common."""

    module_: Module
    n_outputs_: int

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Learn from samples X (N, …) and targets y; sample_weight (N,): what each counts in the mean loss of a
        batch."""
        return self._learn(X, y, sample_weight, None, more=False)

    def _learn(self, X: Any, y: Any, sample_weight: Any, classes: Any, more: bool) -> Any:
        check(self, RULES)
        fresh = not hasattr(self, "module_") or not (self.warm_start or more)
        X, y = validate_data(
            self, X, y, dtype=self._dtypes(), allow_nd=True, multi_output=True, y_numeric=self._numeric, reset=fresh
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        x = self._shaped(X)
        target = self._encode(y, classes, fresh)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        if target.dtype.kind == "f":
            target = target.astype(self._float(x), copy=False)
        weight = self._weights(y, sample_weight)
        weight = None if weight is None else weight.astype(self._float(x), copy=False)
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        stopping = None if more else self._stopping()
        parts: list[Any] = [x, target, weight]
        held: list[Any] | None = None
        if stopping is not None and stopping.monitor.startswith("val_"):
            parts, held = self._split(parts, rng)
        with seeded(seed):
            if fresh:
                self.module_ = self._module(x)
                self.optimizer_ = self._optimizer()
                self.n_iter_, self.loss_curve_ = 0, []
            else:
                in_memory(self.module_, self.optimizer_)
                if not more:  # warm_start: a new optimiser, as scikit-learn's solvers
                    self.optimizer_ = self._optimizer()
            self.history_ = train.fit(
                self.module_,
                Samples(*parts),
                optimizer=self.optimizer_,
                epochs=1 if more else self.epochs,
                loss=self._batch_loss,
                batch_size=self.batch_size,
                shuffle=self.shuffle,
                seed=seed,
                validation_data=None if held is None else Samples(*held),
                metrics=self._metrics(),
                scheduler=None if self.scheduler is None else self.scheduler(self.optimizer_),
                clip_grad_norm=self.clip_grad_norm,
                early_stopping=stopping,
                progress=self.callback if self.callback is not None else self.verbose,
            )
        for p in self.module_.parameters():
            p.grad = None
        self.n_iter_ += len(self.history_)
        self.loss_curve_ += self.history_["loss"]
        self.loss_ = self.loss_curve_[-1]
        if self.history_.stopped == "interrupted":
            warnings.warn("Training interrupted by user.", stacklevel=3)
        return self

    # ---- what fit consists of ----

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _dtypes(self) -> Any:
        """What samples may be: dtype, or, if it is None, float32 and float64."""
        if self.dtype is None:
            return np.float64, np.float32
        dtype = np.dtype(self.dtype)
        if dtype not in (np.float32, np.float64) and dtype.kind not in "iu":
            raise ValueError(f"{self._name}: dtype is {self.dtype!r}, expected float32, float64, an integer or None")
        return dtype

    def _float(self, x: np.ndarray) -> Any:
        """The dtype of weights and losses."""
        return x.dtype if x.dtype.kind == "f" else np.dtype(np.float32)

    def _shaped(self, X: np.ndarray) -> np.ndarray:
        """Samples as the model takes them."""
        if self.input_shape is None:
            return X
        shape = tuple(np.atleast_1d(self.input_shape).tolist())
        if prod(X.shape[1:]) != prod(shape):
            raise ValueError(
                f"{self._name}: samples have shape {X.shape[1:]}, expected as many numbers as in input_shape {shape}"
            )
        return X.reshape(len(X), *shape)

    def _module(self, x: np.ndarray) -> Module:
        """A copy of the model, or a new one, in the precision of x."""
        model = self.model
        if isinstance(model, Module):
            module = copy.deepcopy(model)
            in_memory(module)
        elif callable(model):
            known = {"input_shape": x.shape[1:], "n_features": prod(x.shape[1:]), "n_outputs": self.n_outputs_}
            module = model(**{name: value for name, value in known.items() if name in asked_for(model)})
        else:
            raise TypeError(f"{self._name}: model must be a Module or a function, got {type(model).__name__}")
        if not isinstance(module, Module):
            raise TypeError(f"{self._name}: model must return a Module, got {type(module).__name__}")
        return module.to(self._float(x))

    def _optimizer(self) -> Any:
        make = self.optimizer
        if isinstance(make, str) and make in OPTIMIZERS:
            make = OPTIMIZERS[make]
        if not callable(make):
            names = ", ".join(map(repr, OPTIMIZERS))
            raise ValueError(f"{self._name}: optimizer is {make!r}, expected one of {names} or a function (params, lr)")
        options = self.optimizer_options
        if options is not None and not isinstance(options, Mapping):
            raise TypeError(f"{self._name}: optimizer_options must be a dict or None, got {options!r}")
        return make([p for p in self.module_.parameters() if p.requires_grad], lr=self.lr, **(options or {}))

    def _stopping(self) -> Any:
        """A copy of early_stopping, whose state is that of one fit."""
        given = self.early_stopping
        if given is True:
            return train.EarlyStopping("val_loss", patience=5, restore_best=True)
        if given is None or given is False:
            return None
        if not isinstance(given, train.EarlyStopping):
            raise TypeError(f"{self._name}: early_stopping must be True, False or an EarlyStopping, got {given!r}")
        return copy.deepcopy(given)

    def _split(self, parts: list[Any], rng: Any) -> tuple[list[Any], list[Any]]:
        """Samples to learn from, and those that are set aside, of each class as many as it has."""
        indices = np.arange(len(parts[0]))
        stratify = self._strata(parts[1])
        a, b = train_test_split(indices, test_size=self.validation_fraction, random_state=rng, stratify=stratify)
        return tuple([None if x is None else x[chosen] for x in parts] for chosen in (a, b))  # type: ignore[return-value]

    def _batch_loss(self, output: Any, batch: Weighted) -> Any:
        """The mean loss, weighted by the samples."""
        loss = self._loss()
        output = like_target(output, batch.target)
        self._check_output(output, batch.target)
        if batch.weight is None:
            return loss(output, batch.target)
        losses = loss(output, batch.target, reduction="none")
        weight = batch.weight.reshape(-1, *[1] * (losses.ndim - 1))
        total = float(batch.weight.sum()) * (losses.size // max(len(weight), 1))
        return (losses * weight).sum() / (total or 1.0)

    def _metrics(self) -> Any:
        """fit's metrics, which see the targets themselves."""
        metrics = train.metrics.as_metrics(self.metrics, self._name)
        return {name: unweighted(metric) for name, metric in metrics.items()}

    def _outputs(self, X: Any) -> np.ndarray:
        """What the model makes of samples, in inference mode: (N, n_outputs_)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=self._dtypes(), allow_nd=True, reset=False)
        dtype = next((p.dtype for p in self.module_.parameters()), X.dtype)
        x = self._shaped(X if X.dtype.kind != "f" else X.astype(dtype, copy=False))
        output = train.predict(self.module_, x, batch_size=max(self.batch_size, 256))
        return output.reshape(len(output), -1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.non_deterministic = False
        return tags


class NetClassifier(ClassifierMixin, BaseNet):
    """A classifier that learns with a Module.

    model: a Module, of which each fit trains a copy, from the weights that it has; or a function that returns one, or
    its class, called with those of the arguments input_shape (of one sample), n_features and n_outputs that it has by
    name. It makes logits (N, K) of samples (N, …), one for each class, of multilabel targets y (N, K) as well.

    X may have any rank. input_shape: that of a sample for the model, which flat samples (N, D) are brought to. dtype:
    that of X and of the model; None keeps float64 and float32; an integer for indices, beside a model of float32.

    optimizer: "adam", "adamw", "sgd", "rmsprop", or a function (params, lr=…); optimizer_options: further arguments.
    epochs, batch_size, shuffle, metrics, clip_grad_norm: as of fastnn.train.fit. scheduler: a function of the
    optimizer, whose result has a step an epoch. early_stopping: a train.EarlyStopping, or True for one of "val_loss"
    that waits 5 epochs and gives the best weights back; what watches "val_…" gets validation_fraction of the samples.
    callback: is called with a dict after each epoch; verbose: prints it.

    loss: "auto" is "cross_entropy", of multilabel targets "binary_cross_entropy_with_logits", which also takes models
    with one output for two classes; "nll_loss" for logarithms of probabilities; or a function (output, target) of
    logits, with a keyword reduction if there are weights. class_weight: as in scikit-learn, None, "balanced" or a dict.

    random_state: of weights, batches, dropout and what is set aside; fastnn's own generator is as before afterwards.
    warm_start: fit goes on with module_ and a new optimiser; partial_fit with the same, for one epoch.

    After fit: module_, optimizer_, classes_, n_outputs_, history_ (a train.History), n_iter_ (epochs), loss_,
    loss_curve_.
    """

    _numeric = False

    def __init__(
        self, model, *, loss="auto", optimizer="adam", lr=1e-3, optimizer_options=None, epochs=10, batch_size=32,
        shuffle=True, scheduler=None, clip_grad_norm=None, early_stopping=False, validation_fraction=0.1, metrics=None,
        callback=None, class_weight=None, input_shape=None, dtype=None, random_state=None, warm_start=False,
        verbose=False,
    ):  # fmt: skip
        keep(self, locals())

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """One epoch of these samples. classes: all that will ever come, asked for in the first call."""
        if not hasattr(self, "classes_") and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._learn(X, y, sample_weight, classes, more=True)

    def _encode(self, y: Any, classes: Any, fresh: bool) -> np.ndarray:
        if fresh:
            self._labels = Labels(self._name, y, classes)
            self.classes_ = self._labels.classes
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, {self.classes_!r}")
        numbers = self._labels.numbers(y)
        self.n_outputs_ = len(self.classes_)
        if self._loss_name() == "binary_cross_entropy_with_logits":
            if self._labels.kind == "multiclass":
                raise ValueError(f"{self._name}: loss is {self.loss!r} of {self.n_outputs_} classes, expected 2")
            self.n_outputs_ = 1 if self._labels.kind == "binary" else self.n_outputs_
            return numbers.reshape(len(numbers), -1).astype(np.float64)
        if self._labels.kind == "multilabel":
            return numbers.astype(np.float64)
        return numbers

    def _loss_name(self) -> Any:
        """A name in losses, or None for a function."""
        if callable(self.loss):
            return None
        if self.loss == "auto":
            multilabel = self._labels.kind == "multilabel"
            return "binary_cross_entropy_with_logits" if multilabel else "cross_entropy"
        if self.loss not in CLASS_LOSSES:
            names = ", ".join(map(repr, CLASS_LOSSES))
            raise ValueError(f"{self._name}: loss is {self.loss!r}, expected 'auto', {names} or a function")
        return self.loss

    def _loss(self) -> Callable[..., Any]:
        name = self._loss_name()
        return self.loss if name is None else CLASS_LOSSES[name][0]

    def _check_output(self, output: Any, target: np.ndarray) -> None:
        if self._loss_name() is not None and output.shape[1:2] != (self.n_outputs_,):
            raise ValueError(
                f"{self._name}: model returns shape {output.shape}, expected {(len(target), self.n_outputs_)} for "
                f"{len(self.classes_)} classes"
            )

    def _strata(self, target: np.ndarray) -> Any:
        return None if self._labels.kind == "multilabel" else target

    def _weights(self, y: np.ndarray, sample_weight: Any) -> Any:
        """sample_weight times that of the class."""
        if self.class_weight is None:
            return sample_weight
        of_class = compute_sample_weight(self.class_weight, y)
        return of_class if sample_weight is None else sample_weight * of_class

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class, (N,); of multilabel targets 1 where the probability is above 1/2, (N, K)."""
        z = self._two_columns(self._outputs(X))
        return self._labels.of((z > 0).astype(np.intp) if self._labels.kind == "multilabel" else z.argmax(1))

    def _two_columns(self, z: np.ndarray) -> np.ndarray:
        """One output for two classes as one for each, that of the first class first."""
        return np.hstack([-z, z]) if z.shape[1] == 1 and len(self.classes_) == 2 else z

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of probabilities in the order of classes_: (N, K)."""
        z = self._two_columns(self._outputs(X))
        name = self._loss_name() or self._default_loss()
        return CLASS_LOSSES[name][1](z)

    def _default_loss(self) -> str:
        """What logits are taken for if the loss is a function."""
        one_each = self._labels.kind == "multilabel" or self.n_outputs_ == 1
        return "binary_cross_entropy_with_logits" if one_each else "cross_entropy"

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes in the order of classes_: (N, K)."""
        return np.exp(self.predict_log_proba(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class NetRegressor(MultiOutputMixin, RegressorMixin, BaseNet):
    """A regressor that learns with a Module: see NetClassifier.

    The model makes (N, 1) or (N,) of samples (N, …) for targets y (N,), and (N, K) for y (N, K). loss: "mse_loss",
    "l1_loss", "smooth_l1_loss", "huber_loss", or a function (output, target), both (N, K).
    """

    _numeric = True

    def __init__(
        self, model, *, loss="mse_loss", optimizer="adam", lr=1e-3, optimizer_options=None, epochs=10, batch_size=32,
        shuffle=True, scheduler=None, clip_grad_norm=None, early_stopping=False, validation_fraction=0.1, metrics=None,
        callback=None, input_shape=None, dtype=None, random_state=None, warm_start=False, verbose=False,
    ):  # fmt: skip
        keep(self, locals())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One epoch of these samples."""
        return self._learn(X, y, sample_weight, None, more=True)

    def _encode(self, y: np.ndarray, classes: Any, fresh: bool) -> np.ndarray:
        self._flat = y.ndim == 1
        y = y.reshape(len(y), -1)
        if not fresh and y.shape[1] != self.n_outputs_:
            raise ValueError(f"{self._name}: y has {y.shape[1]} outputs, expected {self.n_outputs_} as before")
        self.n_outputs_ = y.shape[1]
        return y.astype(np.float64, copy=False)

    def _loss(self) -> Callable[..., Any]:
        if callable(self.loss):
            return self.loss
        if self.loss not in NUMBER_LOSSES:
            names = ", ".join(map(repr, NUMBER_LOSSES))
            raise ValueError(f"{self._name}: loss is {self.loss!r}, expected {names} or a function")
        return NUMBER_LOSSES[self.loss]

    def _check_output(self, output: Any, target: np.ndarray) -> None:
        if output.shape != target.shape:
            raise ValueError(f"{self._name}: model returns shape {output.shape}, expected {target.shape}")

    def _strata(self, target: np.ndarray) -> None:
        return None

    def _weights(self, y: np.ndarray, sample_weight: Any) -> Any:
        return sample_weight

    def predict(self, X: Any) -> np.ndarray:
        """(N,), or (N, K) for targets of K numbers."""
        y = self._outputs(X)
        return y.ravel() if self._flat else y
