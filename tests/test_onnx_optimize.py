"""What fastnn.onnx makes of graphs, and what it must leave."""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("onnx")

from networks import drawn
from onnx_networks import Builder

from fastnn import onnx as fx

X = ("N", 6, 9, 7)


def operators(model):
    return dict(Counter(node.op for node in model.graph.nodes))


def compared(b, *outputs, bound=2e-5, shape=(2, 6, 9, 7)):
    """The optimised model, after its results were compared with the plain one's, twice: without a plan and with one.

    bound: of differences relative to the largest result; a few dozen float32 roundings.
    """
    model = b.model(*outputs)
    fast, plain = fx.load(model), fx.load(model, optimize=False)
    x = drawn("images", shape, b.dtype)
    for _ in range(2):
        for got, want in zip(fast.run([x]), plain.run([x]), strict=True):
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            np.testing.assert_allclose(got, want, rtol=0, atol=bound * max(1, np.abs(want).max(initial=0)))
    return fast


# ---- constants ----


def test_constants_are_folded():
    b = Builder(("x", X))
    shape = b.call("Concat", b.constant(np.array([0, 6])), b.constant(np.array([-1])), axis=0)
    wide = b.call("Expand", b.call("Sqrt", b.constant(np.float32(4))), b.constant(np.array([6, 1, 1])))
    model = compared(b, b.call("Mul", b.call("Reshape", "x", shape), b.call("Reshape", wide, b.constant([6, 1]))))
    assert operators(model) == {"Reshape": 1, "Mul": 1}


def test_random_numbers_are_not_constants():
    b = Builder(("x", X))
    ones, half, training = map(b.constant, (np.ones((6, 9, 7), "f"), np.float32(0.5), np.array(True)))
    model = fx.load(b.model(b.call("Add", "x", b.call("Dropout", ones, half, training))))
    assert operators(model) == {"Dropout": 1, "Add": 1}
    with pytest.raises(fx.UnsupportedOperator, match="operator Dropout of opset 17: training mode"):
        model(np.zeros((2, 6, 9, 7), np.float32))


def test_an_error_in_constants_is_one_of_running():
    b = Builder(("x", X))
    bad = b.call("Add", b.constant(np.ones(2, "f")), b.constant(np.ones(3, "f")))
    model = fx.load(b.model(b.call("Add", "x", bad)))
    with pytest.raises(ValueError, match="operator Add"):
        model(np.zeros((1, 6, 9, 7), np.float32))


def test_a_constant_graph():
    b = Builder(("x", X))
    model = fx.load(b.model(b.call("Exp", b.constant(np.zeros(3, "f"))), b.relu("x")))
    first, _ = model(np.zeros((1, 6, 9, 7), np.float32))
    assert np.array_equal(first, np.ones(3))
    first[:] = 5
    assert np.array_equal(model(np.zeros((1, 6, 9, 7), np.float32))[0], np.ones(3))


def test_what_nobody_uses_goes():
    b = Builder(("x", X))
    b.relu(b.conv("x", 4, 1))
    model = compared(b, b.call("Exp", "x"))
    assert operators(model) == {"Exp": 1}
    assert not model.graph.initializers


# ---- copies and moves ----


def test_identity_and_dropout_go():
    b = Builder(("x", X))
    x = b.call("Identity", b.relu(b.call("Dropout", b.call("Identity", "x"))))
    assert operators(compared(b, b.call("Exp", x))) == {"Relu": 1, "Exp": 1}


def test_dropout_stays_where_its_mask_is_used_or_it_trains():
    b = Builder(("x", X))
    y, mask = b.call("Dropout", "x", outputs=2)
    assert operators(compared(b, b.relu(y), mask))["Dropout"] == 1
    b = Builder(("x", X))
    y = b.call("Dropout", "x", b.constant(np.float32(0.5)), b.constant(np.array(True)), seed=3)
    assert operators(fx.load(b.model(b.relu(y))))["Dropout"] == 1


def test_transposes_and_reshapes_are_joined():
    b = Builder(("x", X))
    y = b.call("Transpose", b.call("Transpose", "x", perm=[1, 2, 3, 0]), perm=[3, 0, 1, 2])
    y = b.call("Reshape", b.call("Reshape", y, b.constant([0, -1])), b.constant([2, 9, -1]))
    y = b.call("Transpose", b.call("Transpose", y, perm=[2, 0, 1]), perm=[2, 0, 1])
    model = compared(b, b.relu(y))
    assert operators(model) == {"Reshape": 1, "Transpose": 1, "Relu": 1}


def test_reshapes_that_copy_sizes_stay():
    b = Builder(("x", X))
    y = b.call("Reshape", b.call("Reshape", "x", b.constant([-1, 7])), b.constant([0, 7, 1]))
    assert operators(compared(b, y)) == {"Reshape": 2}


# ---- layers ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [False, True])
def test_batch_norm_is_folded_into_convolution(bias, dtype):
    b = Builder(("x", X), dtype=dtype)
    x = b.norm(b.conv("x", 8, 3, padding=1, bias=bias, group=2))
    model = compared(b, b.relu(x), bound=2e-5 if dtype == np.float32 else 1e-13)
    assert operators(model) == {"Conv": 1}
    assert model.graph.nodes[0].attributes["activation"] == "relu"


def test_batch_norm_is_folded_into_transposed_convolution():
    b = Builder(("x", X))
    y = b.call("ConvTranspose", "x", b.weights(6, 4, 3, 3), b.vector("bias", 8), group=2, strides=[2, 1])
    b.channels = 8
    assert operators(compared(b, b.norm(y))) == {"ConvTranspose": 1}


@pytest.mark.parametrize("transposed", [0, 1])
def test_batch_norm_is_folded_into_gemm(transposed):
    b = Builder(("x", ("N", 6)))
    w = b.weights(5, 6) if transposed else b.weights(6, 5)
    y = b.call("Gemm", "x", w, b.vector("bias", 5), transB=transposed, alpha=0.5, beta=2.0)
    b.channels = 5
    assert operators(compared(b, b.relu(b.norm(y)), shape=(3, 6))) == {"Gemm": 1}


def test_factors_and_summands_of_channels_are_folded():
    b = Builder(("x", X))
    y = b.call("Mul", b.conv("x", 8, 3), b.constant(drawn("s", (1, 8, 1, 1), np.float32)))
    y = b.call("Add", b.constant(drawn("t", (1, 8, 1, 1), np.float32)), y)
    assert operators(compared(b, b.call("Sub", y, b.constant(drawn("u", (1, 8, 1, 1), np.float32))))) == {"Conv": 1}


def test_what_is_not_folded():
    """A value that is used twice or given out; training; statistics that are no constants; factors of pixels."""
    b = Builder(("x", X))
    twice = b.conv("x", 8, 3)
    model = compared(b, b.norm(twice), b.call("Exp", twice))
    assert operators(model)["BatchNormalization"] == 1
    b = Builder(("x", X))
    given = b.conv("x", 8, 3)
    model = compared(b, given, b.norm(given), b.relu(given))
    assert operators(model) == {"Conv": 1, "BatchNormalization": 1, "Relu": 1}
    b = Builder(("x", X))
    arguments = [b.conv("x", 8, 3), *(b.vector(n, 8) for n in ("weight", "bias", "mean", "var"))]
    trained = b.call("BatchNormalization", *arguments, outputs=3, training_mode=1)
    assert operators(compared(b, *trained)) == {"Conv": 1, "BatchNormalization": 1}
    b = Builder(("x", X), ("var", (8,)))
    arguments = [b.conv("x", 8, 3), *(b.vector(n, 8) for n in ("weight", "bias", "mean")), "var"]
    assert operators(fx.load(b.model(b.call("BatchNormalization", *arguments))))["BatchNormalization"] == 1
    b = Builder(("x", X))
    y = b.call("Mul", b.conv("x", 8, 3), b.constant(drawn("s", (7, 5), np.float32)))
    assert operators(compared(b, y)) == {"Conv": 1, "Mul": 1}


@pytest.mark.parametrize("shape", [(1, 7, 1), (1, 1, 7, 1), (1, 1, 7, 1, 1), (1, 7, 1, 1, 1)], ids=str)
def test_constants_of_rows_are_no_channels(shape):
    """There are as many rows, channels and images."""
    b = Builder(("x", X))
    y = b.call("Mul", b.conv("x", 7, 3), b.constant(drawn("s", shape, np.float32)))
    assert operators(compared(b, y, shape=(7, 6, 9, 7))) == {"Conv": 1, "Mul": 1}


def test_constants_that_add_axes_to_rows_of_gemm():
    b = Builder(("x", ("N", 6)))
    y = b.call("Gemm", "x", b.weights(6, 5), b.vector("bias", 5))
    assert operators(compared(b, b.call("Add", y, b.constant(drawn("s", (1, 5, 1), np.float32))), shape=(5, 6))) == {
        "Gemm": 1,
        "Add": 1,
    }


@pytest.mark.parametrize("shape", [(8, 1, 1), (1, 8, 1, 1), (1, 1, 1, 1), (1,), ()], ids=str)
def test_factors_of_channels_in_any_form(shape):
    b = Builder(("x", X))
    y = b.call("Div", b.conv("x", 8, 3), b.constant(2 + drawn("s", shape, np.float32)))
    assert operators(compared(b, y)) == {"Conv": 1}


def test_batch_norm_of_a_variance_that_makes_infinite_weights_stays():
    b = Builder(("x", X))
    arguments = [b.conv("x", 2, 1), *(b.constant(np.full(2, v, np.float32)) for v in (3e38, 0, 0, 1e-30))]
    y = b.call("BatchNormalization", *arguments, epsilon=0.0)
    assert operators(fx.load(b.model(y))) == {"Conv": 1, "BatchNormalization": 1}


@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_the_convolutions(stride):
    b = Builder(("x", X))
    y = b.conv(b.call("Pad", "x", b.constant([0, 0, 1, 2, 0, 0, 3, 0])), 4, 3, stride=stride, padding=1)
    model = compared(b, y)
    assert operators(model) == {"Conv": 1}
    assert model.graph.nodes[0].attributes["pads"] == [2, 3, 4, 1]


@pytest.mark.parametrize("case", ["value", "mode", "channels", "negative"])
def test_padding_that_stays(case):
    b = Builder(("x", X))
    pads = {"channels": [0, 1, 0, 0, 0, 1, 0, 0], "negative": [0, 0, -1, 0, 0, 0, 0, 0]}.get(case, [0, 0, 1, 1] * 2)
    value = [b.constant(np.float32(1))] if case == "value" else []
    y = b.call("Pad", "x", b.constant(pads), *value, mode="reflect" if case == "mode" else "constant")
    b.channels += 2 * (case == "channels")
    assert operators(compared(b, b.conv(y, 4, 3))) == {"Pad": 1, "Conv": 1}


@pytest.mark.parametrize("swapped", [False, True])
def test_products_and_sums_are_linear_layers(swapped):
    b = Builder(("x", X))
    operands = b.call("MatMul", "x", b.weights(7, 5)), b.vector("bias", 5)
    model = compared(b, b.relu(b.call("Add", *operands[:: -1 if swapped else 1])))
    assert operators(model) == {"Linear": 1}
    b = Builder(("x", X))
    rows = b.call("Add", b.call("MatMul", "x", b.weights(7, 5)), b.constant(drawn("b", (9, 5), np.float32)))
    assert operators(compared(b, rows)) == {"MatMul": 1, "Add": 1}


@pytest.mark.parametrize("options", [{}, {"alpha": 2.0, "beta": 0.5}, {"transB": 1}, {"beta": 0.0}])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 5), (3, 1), (3, 5)])
def test_gemm(options, shape):
    b = Builder(("x", (3, 6)))
    w = b.weights(*((5, 6) if "transB" in options else (6, 5)))
    c = b.constant(drawn("c", shape, np.float32))
    compared(b, b.relu(b.call("Gemm", "x", w, c, **options)), shape=(3, 6))


# ---- sums and activations ----


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_residual_sums(first, relu):
    b = Builder(("x", X))
    x = b.relu(b.conv("x", 8, 1))
    operands = [b.norm(b.conv(b.relu(b.conv(x, 4, 3, padding=1)), 8, 1, bias=False)), x]
    y = b.call("Add", *operands[:: -1 if first else 1])
    model = compared(b, b.relu(y) if relu else y)
    assert operators(model) == {"Conv": 3}
    (plan,) = model.program.plans.values()
    assert len([block for block in plan.blocks if block.size]) == 1  # the sum goes where x was, which the caller gets


def test_residual_sums_of_two_convolutions_and_of_other_shapes():
    b = Builder(("x", X))
    y = b.conv("x", 8, 1)
    b.channels = 6
    assert operators(compared(b, b.relu(b.call("Add", y, b.conv("x", 8, 1))))) == {"Conv": 2}
    b = Builder(("x", X))
    column = b.call("GlobalAveragePool", "x")
    y = b.relu(b.call("Add", b.conv("x", 6, 1), column))
    assert operators(compared(b, y)) == {"GlobalAveragePool": 1, "Conv": 1}
    b = Builder(("x", X))
    y = b.relu(b.call("Add", b.conv(b.call("GlobalAveragePool", "x"), 6, 1), "x"))
    compared(b, y)


def test_a_sum_with_itself_and_with_what_made_it():
    b = Builder(("x", X))
    y = b.conv("x", 6, 1)
    compared(b, b.call("Add", y, y))
    b = Builder(("x", X))
    z = b.call("Exp", "x")
    compared(b, b.relu(b.call("Add", b.conv(z, 6, 1), z)))


def test_activations_are_fused_where_nobody_else_looks():
    b = Builder(("x", X))
    y = b.conv("x", 8, 3)
    assert operators(compared(b, b.relu(y), b.call("Exp", y)))["Relu"] == 1
    b = Builder(("x", X))
    assert operators(compared(b, b.relu(b.relu(b.conv("x", 8, 3))))) == {"Conv": 1, "Relu": 1}
    b = Builder(("x", X))
    assert operators(compared(b, b.relu(b.call("Add", "x", b.call("Exp", "x"))))) == {"Exp": 1, "Add": 1}


def test_integers_are_not_fused_wrongly():
    b = Builder(("x", X))
    y = b.call("Cast", b.call("Mul", "x", b.constant(np.float32(9))), to=6)
    compared(b, b.relu(b.call("Add", y, b.constant(np.int32(-2)))))


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_automatic_padding(mode, stride):
    b = Builder(("x", X))
    w = b.weights(5, 6, 4, 3)
    model = compared(b, b.call("Conv", "x", w, auto_pad=mode, strides=[stride, 1]))
    y = model(drawn("images", (2, 6, 9, 7), np.float32))
    assert y.shape[2:] == ((6 + stride - 1) // stride, 5) if mode == "VALID" else (-(-9 // stride), 7)


@pytest.mark.parametrize("bounds", [(0.0, 0.5), (-0.5, None), (None, 0.25), (0.5, 0.25)])
def test_clip(bounds):
    b = Builder(("x", X))
    names = ["" if v is None else b.constant(np.float32(v)) for v in bounds]
    compared(b, b.call("Clip", b.conv("x", 4, 1), *names), bound=1e-6)
