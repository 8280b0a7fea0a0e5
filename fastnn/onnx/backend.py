"""ONNX's own interface to what runs models: `onnx.backend.test.BackendTest(FastnnBackend, __name__)`."""

import numpy as np
import onnx
from onnx import helper
from onnx.backend.base import Backend, BackendRep, Device, DeviceType

from fastnn.onnx.model import load

__all__ = ["FastnnBackend", "FastnnRep", "prepare", "run_model", "run_node", "supports_device"]


class FastnnRep(BackendRep):
    """A model that can be run."""

    def __init__(self, model):
        self.model = model

    def run(self, inputs, **options):
        """A tuple of outputs for the inputs in their order, or one array."""
        many = isinstance(inputs, list | tuple)
        return tuple(self.model.run(list(inputs) if many else [np.asarray(inputs)]))


class FastnnBackend(Backend):
    """Models on the CPU."""

    @classmethod
    def prepare(cls, model, device="CPU", **options):
        """model: an onnx.ModelProto. UnsupportedOperator if it has an operator that fastnn does not."""
        return FastnnRep(load(model))

    @classmethod
    def run_model(cls, model, inputs, device="CPU", **options):
        return cls.prepare(model, device).run(inputs)

    @classmethod
    def run_node(cls, node, inputs, device="CPU", outputs_info=None, **options):
        """The outputs of one node; inputs in its order, without those that are left out."""
        names = list(dict.fromkeys(filter(None, node.input)))
        arrays = [np.asarray(x) for x in inputs]
        values = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for name, x in zip(names, arrays, strict=True)
        ]
        results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        opset = options.get("opset_version", onnx.defs.onnx_opset_version())
        version = onnx.defs.get_schema(node.op_type, node.domain).since_version if node.domain else opset
        graph = helper.make_graph([node], node.op_type, values, results)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])
        return cls.run_model(model, arrays, device)

    @classmethod
    def supports_device(cls, device):
        return Device(device).type == DeviceType.CPU


prepare = FastnnBackend.prepare
run_model = FastnnBackend.run_model
run_node = FastnnBackend.run_node
supports_device = FastnnBackend.supports_device
