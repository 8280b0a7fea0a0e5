"""PyTorch as another witness: an operator's results by its torch peer, and the kernels' verdict against them."""

from fastnn.registry import as_tuple, each_array, flat, named_arrays


def torch_results(spec, arrays, options, dy):
    """(outputs, gradients by name) of the operator's torch peer, as NumPy arrays; updated arguments are outputs."""
    import torch

    tensors = {name: each_array(lambda a: torch.from_numpy(a.copy()), x) for name, x in arrays.items()}
    variables = {name: tensors[name].requires_grad_() for name in spec.grads if tensors[name] is not None}
    outputs = flat(as_tuple(spec.peers["torch"](torch, **tensors, **options)))
    grads = dict.fromkeys(spec.grads)
    if variables:
        dy = [torch.from_numpy(d.copy()) for d in as_tuple(dy)]
        found = torch.autograd.grad(outputs[: spec.outputs], list(variables.values()), dy, materialize_grads=True)
        grads.update((name, g.numpy()) for name, g in zip(variables, found, strict=True))
    return [y.detach().numpy() for y in outputs], grads


def judge(problem, outputs, grads):
    """The compiled kernels' verdicts, forward and backward, with another library's results as the truth.

    What it does not compute (further outputs, updated arguments) is left to the reference.
    """
    after, expected, ctx = problem.reference()
    expected = tuple(flat(expected))
    for name in problem.spec.updates:
        count = len(named_arrays({name: after.get(name)}))
        updated = iter(outputs[len(expected) :][:count])
        after[name] = each_array(lambda x, updated=updated: next(updated), after.get(name))
        outputs = [*outputs[: len(expected)], *outputs[len(expected) + count :]]
    problem.truth = after, (*outputs, *expected[len(outputs) :]) or (None,), ctx
    problem.gradients = grads
    yield "forward", problem.forward()
    if problem.spec.grads:
        yield "backward", problem.backward()
