"""PyTorch as another witness: an operator's results by its torch peer, and the kernels' verdict against them."""

from fastnn.registry import as_tuple, flat, listed, map_arrays, restored


def torch_results(spec, arrays, options, dy):
    """(outputs, gradients by name) of the operator's torch peer, as NumPy arrays; updated arguments are outputs."""
    import torch

    tensors = map_arrays(lambda x: torch.from_numpy(x.copy()), arrays)
    arguments = {name: tensors[name] for name in spec.grads}
    floats = {name: x for name, x in flat(arguments).items() if x is not None and x.is_floating_point()}
    variables = {name: x.requires_grad_() for name, x in floats.items()}
    outputs = listed(spec.peers["torch"](torch, **tensors, **options))
    grads = dict.fromkeys(flat(arguments))
    if variables:
        dy = [torch.from_numpy(d.copy()) for d in as_tuple(dy)]
        found = torch.autograd.grad(outputs[: spec.outputs], list(variables.values()), dy, materialize_grads=True)
        grads.update((name, g.numpy()) for name, g in zip(variables, found, strict=True))
    return [y.detach().numpy() for y in outputs], restored(grads, arguments)


def judge(problem, outputs, grads):
    """The compiled kernels' verdicts, forward and backward, with another library's results as the truth.

    What it does not compute (further outputs, updated arguments) is left to the reference.
    """
    after, expected, ctx = problem.reference()
    expected = listed(expected)
    outputs, updated = outputs[: len(expected)], iter(outputs[len(expected) :])
    for name in problem.spec.updates:
        after[name] = map_arrays(lambda x: next(updated), after.get(name))
    problem.truth = after, (*outputs, *expected[len(outputs) :]) or (None,), ctx
    problem.gradients = grads
    yield "forward", problem.forward()
    if problem.spec.grads:
        yield "backward", problem.backward()
