"""Specs of the fully connected layer and the matrix product."""

from math import prod

from fastnn.registry import Case, OpSpec, Work


def matmul_case(m, k, n):
    return Case({"a": (m, k), "b": (k, n)})


def linear_case(n, d, m, bias=True):
    batch = n if isinstance(n, tuple) else (n,)
    return Case({"x": (*batch, d), "w": (m, d), "b": (m,) if bias else None})


def product_work(m, k, n, itemsize):
    """One multiplication and one addition an element of the (m, k, n) box; every operand crosses memory once."""
    return Work(2 * m * k * n, (m * k + k * n + m * n) * itemsize)


def matmul_work(case, itemsize):
    (m, k), (_, n) = case.shapes["a"], case.shapes["b"]
    return product_work(m, k, n, itemsize)


def linear_work(case, itemsize):
    (*batch, d), (m, _) = case.shapes["x"], case.shapes["w"]
    return product_work(prod(batch), d, m, itemsize)


def twice(work):
    """Backward is two products of the same size."""

    def backward_work(case, itemsize):
        flops, nbytes = work(case, itemsize)
        return Work(2 * flops, 2 * nbytes)

    return backward_work


SPECS = (
    OpSpec(
        name="matmul",
        grads=("a", "b"),
        cases=tuple(matmul_case(*s) for s in [(1, 1, 1), (3, 5, 7), (15, 33, 65), (29, 300, 31), (70, 17, 32)]),
        bench=(matmul_case(64, 64, 64), matmul_case(1024, 1024, 1024)),
        products=True,
        work=matmul_work,
        backward_work=twice(matmul_work),
        depth=lambda case: max(*case.shapes["a"], *case.shapes["b"]),  # length of the longest sum, forward or backward
        multilinear=True,
        batch=lambda case: {"a": 0},
        peers={"torch": lambda torch, a, b: a @ b},
    ),
    OpSpec(
        name="linear",
        grads=("x", "w", "b"),
        cases=(
            linear_case(1, 1, 1),
            linear_case(4, 7, 3),
            linear_case(1, 130, 17, bias=False),
            linear_case(13, 65, 9),
            linear_case((2, 3, 5), 7, 4),
            linear_case(50, 1030, 35),
        ),
        bench=(
            linear_case(1, 16, 16),
            linear_case(8, 16, 32),
            linear_case(1, 512, 1000),
            linear_case(64, 784, 512),
            linear_case(4, 25088, 4096),
        ),
        products=True,
        work=linear_work,
        backward_work=twice(linear_work),
        depth=lambda case: max(prod(case.shapes["x"][:-1]), *case.shapes["w"]),
        multilinear=True,
        peers={"torch": lambda torch, x, w, b: torch.nn.functional.linear(x, w, b)},
    ),
)
