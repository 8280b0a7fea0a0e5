"""fastnn.onnx: what loads, plans and runs. Operators by themselves are tested in test_onnx_operators.py."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
import onnx_networks
from networks import drawn
from onnx import TensorProto, helper
from onnx_networks import Builder

from fastnn import onnx as fx
from fastnn.onnx.plan import Block, Note, place

NETWORKS = {
    "resnet": (lambda: onnx_networks.resnet(width=8, counts=(2, 1, 1), classes=10), (3, 3, 45, 38)),
    "alexnet": (lambda: onnx_networks.alexnet(hidden=64, size=99), (2, 3, 99, 99)),
    "vgg19": (lambda: onnx_networks.vgg19(hidden=32, size=32, width=8), (2, 3, 32, 32)),
    "lstm": (lambda: onnx_networks.lstm(features=12, hidden=20, classes=7), (9, 3, 12)),
}


def rounding(got, want):
    """The difference's norm, relative."""
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def images(*shape, dtype=np.float32, name="images"):
    return drawn(name, shape, dtype)


def small(**options):
    """Conv, ReLU, pooling, a linear layer."""
    b = Builder(("x", ("N", 3, 8, 6)), **options)
    x = b.max_pool(b.relu(b.norm(b.conv("x", 8, 3, padding=1, bias=False))), 2, 2)
    return b.model(b.gemm(b.call("Flatten", x), 96, 5))


# ---- results ----


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_against_unoptimised_and_onnxruntime(name):
    make, shape = NETWORKS[name]
    data = make().SerializeToString()
    fast, plain = fx.load(data), fx.load(data, optimize=False)
    x = images(*shape)
    want = plain(x)
    # BatchNorm's folding and Winograd's tiles round differently, by less than 1e-6 each, over at most 30 layers
    assert rounding(fast(x), want) < 3e-5
    assert np.array_equal(fast(x), fast(x))  # the first run has no plan, the others have one
    assert np.array_equal(plain(x), want)
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert rounding(fast(x), session.run(None, {"x": x})[0]) < 3e-5


def test_float64():
    model = small(dtype=np.float64)
    fast, plain = fx.load(model), fx.load(model, optimize=False)
    x = images(2, 3, 8, 6, dtype=np.float64)
    assert fast(x).dtype == np.float64
    assert rounding(fast(x), plain(x)) < 1e-14


def test_any_batch_and_any_layout():
    model, plain = fx.load(small()), fx.load(small(), optimize=False)
    x = images(7, 3, 8, 6)
    for n in (7, 1, 0, 7, 3):
        assert model(x[:n]).shape == (n, 5)
        np.testing.assert_allclose(model(x[:n]), plain(x[:n]), rtol=1e-5, atol=1e-5)
    turned = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert np.array_equal(model(turned), model(x))


def test_more_shapes_than_plans():
    model = fx.load(small())
    x = images(40, 3, 8, 6)
    first = [model(x[:n]) for n in range(40)]
    assert len(model.program.plans) <= 16
    assert all(np.array_equal(model(x[:n]), first[n]) for n in range(40))


def test_two_models_and_threads():
    models = fx.load(small()), fx.load(NETWORKS["resnet"][0]())
    xs = [images(2, 3, 8, 6), images(1, 3, 33, 40)]
    wants = [model(x) for model, x in zip(models, xs, strict=True)]

    def check(i):
        return np.array_equal(models[i % 2](xs[i % 2]), wants[i % 2])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(check, range(60)))


# ---- memory ----


def test_results_belong_to_the_caller_and_inputs_stay():
    model = fx.load(NETWORKS["resnet"][0]())
    x = images(2, 3, 40, 40)
    before = x.copy()
    kept = [model(x * k) for k in (1, 2, 3)]
    copies = [y.copy() for y in kept]
    model(images(2, 3, 40, 40, name="others"))
    assert np.array_equal(x, before)
    assert all(np.array_equal(a, b) for a, b in zip(kept, copies, strict=True))
    kept[0][:] = 0
    assert np.array_equal(model(x), copies[0])


def test_outputs_that_are_inputs_constants_and_views():
    b = Builder(("x", (2, 3)))
    c = b.constant(np.arange(6, dtype=np.float32))
    y = b.relu("x")
    turned = b.call("Transpose", y, perm=[1, 0])
    again = b.call("Reshape", y, b.constant(np.array([3, 2])))
    model = fx.load(b.model("x", c, y, turned, again, b.call("Identity", "x")))
    x = images(2, 3)
    wants = [x.copy(), np.arange(6, dtype=np.float32), np.maximum(x, 0), np.maximum(x, 0).T]
    wants += [np.maximum(x, 0).reshape(3, 2), x.copy()]
    for _ in range(3):
        results = model(x)
        for got, want in zip(results, wants, strict=True):
            assert np.array_equal(got, want)
        for got in results:  # none shares memory with another one, the input or the model
            got[...] = 9
        assert np.array_equal(x, wants[0])


def test_intermediate_results_that_are_read_again_are_not_overwritten():
    """Elementwise operators write over an input only where nothing reads it, or a view of it, afterwards."""
    b = Builder(("x", (4, 6)))
    a = b.call("Exp", "x")
    view = b.call("Reshape", a, b.constant(np.array([6, 4])))
    over = b.relu(b.call("Sub", a, b.constant(np.float32(1))))
    total = b.call("Add", over, b.call("Transpose", b.call("Tanh", view), perm=[1, 0]))
    squared = b.call("Mul", total, total)
    model = fx.load(b.model(b.call("Add", squared, b.call("Sigmoid", a))))
    x = images(4, 6)
    e = np.exp(x.astype(np.float64))
    want = (np.maximum(e - 1, 0) + np.tanh(e.reshape(6, 4)).T) ** 2 + 1 / (1 + np.exp(-e))
    for _ in range(3):
        np.testing.assert_allclose(model(x), want, rtol=2e-6)


def test_arena_is_smaller_than_what_it_holds():
    b = Builder(("x", ("N", 4, 16, 16)))
    x = "x"
    for _ in range(10):
        x = b.relu(b.conv(x, 4, 3, padding=1))
    model = fx.load(b.model(x))
    data = images(2, 4, 16, 16)
    model(data)
    (plan,) = model.program.plans.values()
    assert len([block for block in plan.blocks if block.size]) == 9  # the result is not one of them
    assert plan.nbytes == 2 * data.nbytes


def test_blocks_that_live_at_once_lie_apart():
    rng = np.random.default_rng(5)
    for _ in range(50):
        blocks = []
        for _ in range(20):
            begin, size = rng.integers(0, 30), int(rng.integers(1, 5000))
            blocks.append(Block(Note((size,), np.dtype("u1"), True, size), begin, begin + rng.integers(0, 10)))
        total = place(blocks)
        for i, a in enumerate(blocks):
            assert a.offset % 64 == 0
            assert a.offset + a.size <= total
            for other in blocks[:i]:
                apart = a.offset + a.size <= other.offset or other.offset + other.size <= a.offset
                assert apart or a.end < other.begin or other.end < a.begin


# ---- sizes as values, and graphs in graphs ----


def test_shape_arithmetic_is_done_once_for_each_shape():
    b = Builder(("x", ("N", 3, "H", "W")))
    n, h = (b.call("Gather", b.call("Shape", "x"), b.constant(np.array([axis]))) for axis in (0, 2))
    rest = b.call("Mul", h, b.constant(np.array([3])))
    y = b.call("Reshape", b.relu("x"), b.call("Concat", n, rest, b.constant(np.array([-1])), axis=0))
    model = fx.load(b.model(y))
    for shape in ((2, 3, 4, 5), (1, 3, 7, 2), (2, 3, 4, 5)):
        x = images(*shape)
        want = np.maximum(x, 0).reshape(shape[0], 3 * shape[2], -1)
        assert all(np.array_equal(model(x), want) for _ in range(2))
    left = {step.node.op for step, *_ in next(iter(model.program.plans.values())).steps}
    assert left == {"Relu", "Reshape"}


def test_shapes_that_depend_on_values():
    """What NonZero gives has another size in each call: no plan may rely on it."""
    b = Builder(("x", (None, 5)))
    found = b.call("NonZero", b.relu("x"))
    picked = b.call("GatherND", b.relu("x"), b.call("Transpose", found, perm=[1, 0]))
    model = fx.load(b.model(b.call("Exp", b.call("Add", picked, picked))))
    for name in "abcd":
        x = images(4, 5, name=name)
        np.testing.assert_allclose(model(x), np.exp(2 * x[x > 0]), rtol=1e-6)


def branches(b, condition, x):
    """An If that returns a value of the graph around it, or one of its own."""

    def graph(name, nodes, output):
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(output, 1, None)])

    then = graph("then", [helper.make_node("Identity", [x], ["same"])], "same")
    other = graph("else", [helper.make_node("Neg", [x], ["other"])], "other")
    return b.call("If", condition, then_branch=then, else_branch=other)


def test_branches_do_not_alias_what_is_reused():
    b = Builder(("x", (3, 5)))
    y = b.relu("x")
    condition = b.call("Greater", b.call("ReduceSum", "x", keepdims=0), b.constant(np.float32(0)))
    chosen = branches(b, condition, y)
    z = b.call("Tanh", b.call("Add", y, b.constant(np.float32(1))))
    model = fx.load(b.model(chosen, b.call("Mul", chosen, z)))
    kept = []
    for name in "abcdef":
        x = images(3, 5, name=name)
        relu = np.maximum(x, 0)
        want = relu if x.sum() > 0 else -relu
        kept.append((model(x), want, want * np.tanh(relu + 1)))
    assert {bool((want > 0).any()) for _, want, _ in kept} == {True, False}
    for (first, second), want, product in kept:
        assert np.array_equal(first, want)
        np.testing.assert_allclose(second, product, rtol=1e-6, atol=1e-7)


def test_loop_with_weights_of_the_graph_around():
    b = Builder(("x", (2, 4)))
    w = b.weights(4, 4)
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", w], ["product"]),
            helper.make_node("Tanh", ["product"], ["next"]),
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Identity", ["next"], ["scan"]),
        ],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("going", TensorProto.BOOL, []),
         helper.make_tensor_value_info("state", 1, None)],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, []),
         helper.make_tensor_value_info("next", 1, None), helper.make_tensor_value_info("scan", 1, None)],
    )  # fmt: skip
    last, every = b.call("Loop", b.constant(np.array(5)), "", b.relu("x"), outputs=2, body=body)
    model = fx.load(b.model(last, every))
    weights = model.graph.initializers[w]
    for name in "ab":
        x = images(2, 4, name=name)
        state, states = np.maximum(x, 0).astype(np.float64), []
        for _ in range(5):
            state = np.tanh(state @ weights)
            states.append(state)
        got, scanned = model(x)
        np.testing.assert_allclose(got, state, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scanned, states, rtol=1e-5, atol=1e-6)


# ---- files ----


def test_paths_bytes_and_external_data(tmp_path):
    model, x = small(), images(2, 3, 8, 6)
    want = fx.load(model)(x)
    onnx.save(model, tmp_path / "one.onnx")
    onnx.save(model, tmp_path / "two.onnx", save_as_external_data=True, location="two.bin", size_threshold=0)
    assert (tmp_path / "two.bin").exists()
    for source in (tmp_path / "one.onnx", str(tmp_path / "two.onnx"), (tmp_path / "one.onnx").read_bytes()):
        assert np.array_equal(fx.load(source)(x), want)
    with pytest.raises(ValueError, match=r"tensor '.*' is in another file, expected the model's path"):
        fx.load((tmp_path / "two.onnx").read_bytes())


def test_truncated_files():
    data = small().SerializeToString()
    for size in range(0, len(data), 97):
        with pytest.raises(ValueError, match="load"):
            fx.load(data[:size])
    with pytest.raises(ValueError, match="load"):
        fx.load(b"these are no protocol buffers")
    with pytest.raises(TypeError, match=r"source must be a path, bytes or an onnx.ModelProto, got int"):
        fx.load(3)


def test_nodes_out_of_order_run_and_cycles_are_errors():
    model = small()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes[::-1])
    x = images(2, 3, 8, 6)
    assert np.array_equal(fx.load(model)(x), fx.load(small())(x))
    model.graph.node[-1].input[0] = nodes[-1].output[0]
    with pytest.raises(ValueError, match="is not in order"):
        fx.load(model)


def test_values_made_twice_and_outputs_that_nothing_makes():
    model = small()
    model.graph.node[1].output[0] = model.graph.node[0].output[0]
    with pytest.raises(ValueError, match=r"more than once|not in order"):
        fx.load(model)
    model = small()
    model.graph.output[0].name = "nowhere"
    with pytest.raises(ValueError, match="nowhere"):
        fx.load(model)


# ---- arguments ----


def test_inputs_by_name_and_in_order():
    b = Builder(("x", (2, "N")), ("y", (2, "N")))
    model = fx.load(b.model(b.call("Sub", "x", "y"), b.call("Add", "x", "y")))
    x, y = images(2, 3), images(2, 3, name="others")
    assert [v.name for v in model.inputs] == ["x", "y"]
    named = model.run({"y": y, "x": x})
    assert list(named) == [v.name for v in model.outputs]
    for got, want in zip(model.run([x, y]), (x - y, x + y), strict=True):
        assert np.array_equal(got, want)
    second = model.outputs[1].name
    assert list(model.run({"x": x, "y": y}, [second])) == [second]
    assert "Sub" in str(model)
    assert "x: float32 (2, N)" in repr(model)


WRONG = {
    "missing": ({}, ValueError, r"run: inputs lacks \['x'\]"),
    "unknown": ({"z": 0, "x": 0}, ValueError, r"run: inputs has \['z'\], expected \['x'\]"),
    "too many": ([1, 2], ValueError, r"run: inputs has 2 arrays, expected 1: \['x'\]"),
    "no sequence": (3, TypeError, "run: inputs must be a dict or a sequence of arrays, got int"),
    "list": ([[1.0]], TypeError, "run: input 'x' must be a NumPy array, got list"),
    "dtype": ([np.zeros((1, 3, 8, 6))], TypeError, "run: input 'x' is float64, expected float32"),
    "rank": ([np.zeros((3, 8, 6), "f")], ValueError, r"run: input 'x' has shape \(3, 8, 6\), expected"),
    "size": ([np.zeros((1, 3, 8, 7), "f")], ValueError, r"run: input 'x' has shape \(1, 3, 8, 7\), expected"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs(case):
    inputs, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        fx.load(small()).run(inputs)


def test_wrong_outputs():
    with pytest.raises(ValueError, match=r"run: outputs is a list with \['z'\]"):
        fx.load(small()).run([images(1, 3, 8, 6)], ["z"])


def test_unsupported_operators_are_named():
    b = Builder(("x", (2, 3)))
    model = b.model(b.call("Perceive", "x", domain="com.example"))
    with pytest.raises(fx.UnsupportedOperator, match=r"'Perceive_0', operator com\.example\.Perceive of opset 1"):
        fx.load(model)
    assert issubclass(fx.UnsupportedOperator, NotImplementedError)


def test_errors_of_operators_name_the_node():
    b = Builder(("x", (2, None)))
    model = fx.load(b.model(b.call("MatMul", "x", b.weights(4, 4))))
    with pytest.raises(ValueError, match=r"'MatMul_0', operator MatMul"):
        model(images(2, 3))
