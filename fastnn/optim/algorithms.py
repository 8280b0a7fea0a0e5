"""The optimisers, with torch.optim's names, arguments and defaults, over the steps of `fastnn.ops`, which have the
formulas and their sources. All options can be set for each group; maximize goes uphill."""

from fastnn.descriptors import number
from fastnn.ops.optim import decay_rates, ready_adam, ready_rmsprop, ready_sgd
from fastnn.optim.optimizer import Optimizer

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (`fastnn.ops.sgd_step`).

    dampening: of the gradient's share in the momentum. weight_decay: adds weight_decay * p to the gradient.
    nesterov: looks ahead; it needs a momentum, and no dampening. State: momentum_buffer.
    """

    optional = ("momentum_buffer",)

    def __init__(
        self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False, **switches
    ):  # fmt: skip
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults, switches)

    def check(self, options):
        self.check_numbers(options, "lr", "momentum", "weight_decay")
        options["dampening"] = number(options["dampening"], self.name, "dampening")
        self.check_flags(options, "nesterov", "maximize")
        if options["nesterov"] and (options["momentum"] == 0 or options["dampening"] != 0):
            raise ValueError(
                f"{self.name}: nesterov with momentum {options['momentum']} and dampening {options['dampening']}, "
                "expected a momentum above 0 and no dampening"
            )

    def state_names(self, group):
        return self.optional if group["momentum"] != 0 else ()

    def ready(self, group, lists, age):
        return ready_sgd(
            (*lists, None)[:3],
            group["lr"],
            group["momentum"],
            group["dampening"],
            group["weight_decay"],
            group["nesterov"],
            group["maximize"],
            age == 0,
        )


class RMSprop(Optimizer):
    """Gradients over the root of their mean square (`fastnn.ops.rmsprop_step`).

    alpha: the decay of the mean. centered: less the mean's square, so that it is a variance. State: step, square_avg;
    momentum_buffer with a momentum; grad_avg if centered.
    """

    required = ("step", "square_avg")
    optional = ("momentum_buffer", "grad_avg")

    def __init__(
        self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, *, maximize=False,
        **switches,
    ):  # fmt: skip
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults, switches)

    def check(self, options):
        self.check_numbers(options, "lr", "alpha", "eps", "weight_decay", "momentum")
        self.check_flags(options, "centered", "maximize")

    def state_names(self, group):
        names = ["square_avg"]
        if group["centered"]:
            names.append("grad_avg")
        if group["momentum"] != 0:
            names.append("momentum_buffer")
        return tuple(names)

    def ready(self, group, lists, age):
        named = dict(zip(("params", "grads", *self.state_names(group)), lists, strict=True))
        return ready_rmsprop(
            (*lists[:3], named.get("grad_avg"), named.get("momentum_buffer")),
            group["lr"],
            group["alpha"],
            group["eps"],
            group["weight_decay"],
            group["momentum"],
            group["maximize"],
        )


class Adam(Optimizer):
    """Adaptive moments (`fastnn.ops.adam_step`).

    betas: decay of the means of the gradient and of its square. amsgrad: divide by the largest mean square so far.
    decoupled_weight_decay: shrink parameters apart from the gradient, as AdamW does. State: step, exp_avg, exp_avg_sq;
    max_exp_avg_sq with amsgrad.
    """

    required = ("step", "exp_avg", "exp_avg_sq")
    optional = ("max_exp_avg_sq",)

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, maximize=False,
        decoupled_weight_decay=False, **switches,
    ):  # fmt: skip
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults, switches)

    def check(self, options):
        self.check_numbers(options, "lr", "eps", "weight_decay")
        options["betas"] = decay_rates(self.name, options["betas"])
        self.check_flags(options, "amsgrad", "maximize", "decoupled_weight_decay")

    def state_names(self, group):
        return self.required[1:] + self.optional if group["amsgrad"] else self.required[1:]

    def ready(self, group, lists, age):
        decoupled = group["decoupled_weight_decay"]
        return ready_adam(
            "adamw_step" if decoupled else "adam_step",
            decoupled,
            (*lists, None)[:5],
            age + 1,
            group["lr"],
            group["betas"],
            group["eps"],
            group["weight_decay"],
            group["maximize"],
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (`fastnn.ops.adamw_step`)."""

    def __init__(
        self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *, maximize=False,
        **switches,
    ):  # fmt: skip
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True, **switches
        )

    def check(self, options):
        super().check(options)
        options["decoupled_weight_decay"] = True  # whatever a group, or Adam's state, says
