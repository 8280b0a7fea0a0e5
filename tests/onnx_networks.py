"""Networks of the literature as ONNX models with drawn weights, to be compared and measured."""

import networks
import numpy as np
from onnx import helper, numpy_helper

OPSET, IR_VERSION = 17, 8


class Builder:
    """A graph, node by node: `call` makes one and returns the name of its result."""

    def __init__(self, *inputs, dtype=np.float32):
        """inputs: (name, shape)"""
        self.dtype = np.dtype(dtype)
        self.inputs, self.nodes, self.initializers = inputs, [], []
        self.channels = inputs[0][1][1] if len(inputs[0][1]) > 1 else None

    def constant(self, value):
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weights(self, *shape):
        """Of He et al.'s variance."""
        name = f"w{len(self.initializers)}"
        return self.constant(networks.parameters({name: shape}, self.dtype)[name])

    def vector(self, name, size):
        """Around 1 if it is called weight or var, else around 0."""
        name = f"{len(self.initializers)}.{name}"
        return self.constant(networks.parameters({name: (size,)}, self.dtype)[name])

    def call(self, op, *inputs, outputs=1, domain="", **attributes):
        names = [f"v{len(self.nodes)}" if outputs == 1 else f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        node = helper.make_node(op, inputs, names, f"{op}_{len(self.nodes)}", domain=domain, **attributes)
        self.nodes.append(node)
        return names[0] if outputs == 1 else names

    def conv(self, x, filters, size, stride=1, padding=0, bias=True, group=1):
        r, s = (size, size) if isinstance(size, int) else size
        inputs = [x, self.weights(filters, self.channels // group, r, s)]
        inputs += [self.vector("bias", filters)] if bias else []
        self.channels = filters
        return self.call("Conv", *inputs, strides=[stride] * 2, pads=[padding] * 4, group=group)

    def norm(self, x):
        arguments = [self.vector(name, self.channels) for name in ("weight", "bias", "mean", "var")]
        return self.call("BatchNormalization", x, *arguments)

    def relu(self, x):
        return self.call("Relu", x)

    def max_pool(self, x, size, stride, padding=0):
        return self.call("MaxPool", x, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[padding] * 4)

    def gemm(self, x, features, outputs):
        return self.call("Gemm", x, self.weights(outputs, features), self.vector("bias", outputs), transB=1)

    def model(self, *outputs):
        """The ModelProto with these outputs."""
        kind = helper.np_dtype_to_tensor_dtype(self.dtype)
        inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in self.inputs]
        results = [helper.make_tensor_value_info(name, kind, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "network", inputs, results, self.initializers)
        domains = {node.domain for node in self.nodes} | {""}
        opsets = [helper.make_opsetid(domain, 1 if domain else OPSET) for domain in sorted(domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def alexnet(batch="N", size=224, hidden=4096):
    """Krizhevsky 2014, as torchvision has it; with the linear layers' Dropout."""
    b = Builder(("x", (batch, 3, size, size)))
    x = b.max_pool(b.relu(b.conv("x", 64, 11, 4, 2)), 3, 2)
    x = b.max_pool(b.relu(b.conv(x, 192, 5, 1, 2)), 3, 2)
    for filters in (384, 256, 256):
        x = b.relu(b.conv(x, filters, 3, 1, 1))
    side = ((((size - 7) // 4 + 1) - 3) // 2 + 1 - 3) // 2 + 1
    side = (side - 3) // 2 + 1
    x = b.call("Flatten", b.max_pool(x, 3, 2))
    for features, outputs in ((256 * side * side, hidden), (hidden, hidden)):
        x = b.relu(b.gemm(b.call("Dropout", x), features, outputs))
    return b.model(b.gemm(x, hidden, 1000))


def vgg19(batch="N", size=224, width=64, hidden=4096):
    """Simonyan & Zisserman 2015, network E."""
    b = Builder(("x", (batch, 3, size, size)))
    x = "x"
    for factor, count in ((1, 2), (2, 2), (4, 4), (8, 4), (8, 4)):
        for _ in range(count):
            x = b.relu(b.conv(x, factor * width, 3, 1, 1))
        x = b.max_pool(x, 2, 2)
    x = b.call("Flatten", x)
    for features, outputs in ((8 * width * (size // 32) ** 2, hidden), (hidden, hidden)):
        x = b.call("Dropout", b.relu(b.gemm(x, features, outputs)))
    return b.model(b.gemm(x, hidden, 1000))


def resnet(batch="N", width=64, counts=(3, 4, 6, 3), classes=1000):
    """He et al. 2016 with bottlenecks, strides in the 3x3 convolutions; ResNet-50 as it stands."""
    b = Builder(("x", (batch, 3, "H", "W")))
    x = b.max_pool(b.relu(b.norm(b.conv("x", width, 7, 2, 3, bias=False))), 3, 2, 1)
    for stage, count in enumerate(counts):
        inner = width << stage
        for block in range(count):
            stride, channels = 1 + (block == 0 and stage > 0), b.channels
            y = b.relu(b.norm(b.conv(x, inner, 1, bias=False)))
            y = b.relu(b.norm(b.conv(y, inner, 3, stride, 1, bias=False)))
            y = b.norm(b.conv(y, 4 * inner, 1, bias=False))
            if block == 0:
                b.channels = channels
                x = b.norm(b.conv(x, 4 * inner, 1, stride, bias=False))
            x = b.relu(b.call("Add", y, x))
    x = b.call("Flatten", b.call("GlobalAveragePool", x))
    return b.model(b.gemm(x, b.channels, classes))


def resnet50(batch="N"):
    return resnet(batch)


def lstm(batch="N", steps="T", features=128, hidden=256, layers=2, classes=100):
    """Layers of LSTM over (T, N, D), and a linear layer of all hidden states: logits (T, N, classes)."""
    b = Builder(("x", (steps, batch, features)))
    x = "x"
    for _ in range(layers):
        scale = np.float32(hidden**-0.5)
        parts = [networks.drawn(f"{n}{len(b.nodes)}", s, np.float32) * scale for n, s in (
            ("w", (1, 4 * hidden, features)), ("r", (1, 4 * hidden, hidden)), ("b", (1, 8 * hidden)))]  # fmt: skip
        inputs = [b.constant(p) for p in parts]
        x = b.call("LSTM", x, *inputs, outputs=3, hidden_size=hidden)[0]
        x = b.call("Squeeze", x, b.constant(np.array([1])))
        features = hidden
    x = b.call("MatMul", x, b.weights(hidden, classes))
    return b.model(b.call("Add", x, b.vector("bias", classes)))
