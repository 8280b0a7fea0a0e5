"""Spec of local response normalisation."""

from fastnn.descriptors import response_norm_desc
from fastnn.registry import Case, OpSpec, Work, image_of


def case(shape, size=5, **options):
    return Case({"x": shape}, {"size": size, **options})


def describe(case):
    return response_norm_desc(case.shapes["x"], case.options["size"])


def work(case, itemsize):
    desc = describe(case)
    return Work(desc.flops, desc.bytes(itemsize), desc.elements * itemsize)


def backward_work(case, itemsize):
    desc = describe(case)
    return Work(desc.backward_flops, desc.backward_bytes(itemsize), desc.elements * itemsize)


def depth(case):
    """Two sums over a window and a power: a dozen steps by roots; by the logarithm log d, exp magnifies its rounding by
    beta |log d|, here less than 8."""
    return 2 * min(case.options["size"], case.shapes["x"][1]) + 32


def torch_local_response_norm(torch, x, size, alpha=1e-4, beta=0.75, k=1.0):
    return torch.nn.functional.local_response_norm(x, size, alpha, beta, k)


SPECS = (
    OpSpec(
        name="local_response_norm",
        grads=("x",),
        cases=(
            case((2, 3, 4)),
            case((2, 7, 5, 6), alpha=1.0),
            case((1, 9, 70), 4, alpha=0.5, k=2.0),
            case((2, 5, 3, 3), 1, alpha=1.0, beta=0.5),
            case((2, 4, 17, 19), 3, alpha=2.0, beta=1.3),
            case((3, 2, 2, 3, 4), 9, alpha=1.0, beta=1.0),
            case((1, 6, 24, 32), alpha=1.0),
            case((1, 3, 40, 41), 2, alpha=1.0, beta=0.0),
            case((1, 1, 3), alpha=1.0, k=0.5),
        ),
        # AlexNet; beyond the caches.
        bench=(case((8, 96, 55, 55)), case((8, 256, 27, 27)), case((32, 96, 55, 55)), case((1, 8, 16))),
        work=work,
        backward_work=backward_work,
        depth=depth,
        exact=False,
        sized=lambda n: case(image_of(n)),
        peers={"torch": torch_local_response_norm},
    ),
)
