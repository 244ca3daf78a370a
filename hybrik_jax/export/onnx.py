"""Networks as ONNX, for onnxruntime and whatever else reads it; what there is to know is in the metadata.

    import numpy, onnxruntime

    session = onnxruntime.InferenceSession('network.onnx')
    arrays = {'image': image, 'crop_to_photo': crop_to_photo, 'inverse_intrinsics': inverse_intrinsics}
    said = session.run(['joints_m', 'root_m'], arrays | {'root_depth_m': root_depth_m})

Writing needs the package onnx, running onnxruntime: the extra [onnx].
"""

import importlib.util
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hybrik_jax.export.deployable import PEOPLE, Array, Deployable

FORMAT = 8  # the oldest version of the file's format that has the operators
NEEDED = 'ONNX needs two packages more: pip install "onnx>=1.18,<2" "onnxruntime>=1.22,<2"'


def serialise(network: Deployable) -> bytes:
    """Returns a network of any number of people.

    Raises:
        ValueError: onnx or onnxruntime is not installed, or the network uses what is not written as ONNX.
    """
    if any(importlib.util.find_spec(name) is None for name in ('onnx', 'onnxruntime')):
        raise ValueError(f'{NEEDED}.')
    import onnx
    from onnx import helper

    from hybrik_jax.export import onnx_graph, onnx_primitives

    (people,) = jax.export.symbolic_shape(PEOPLE)
    shapes = [jax.ShapeDtypeStruct((people, *one.shape), np.dtype(one.kind)) for one in network.inputs]
    names = [one.name for one in network.outputs]

    def in_order(*arrays: jax.Array) -> list[jax.Array]:
        said = network.function(*arrays)
        return [said[name] for name in names]

    traced = jax.make_jaxpr(in_order)(*shapes)
    graph = onnx_graph.Graph(people, network.inputs[0].name)
    inputs = [onnx_graph.Value((people, *one.shape), one.name) for one in network.inputs]
    try:
        outputs = onnx_primitives.trace(graph, traced.jaxpr, traced.consts, inputs)
    except NotImplementedError as error:
        raise ValueError(
            f'{error} This network can be written as StableHLO: tools.export_stablehlo.'
        ) from None
    for name, value, whole in zip(names, outputs, traced.out_avals, strict=True):
        result = graph.name_of(graph.full(value, whole.shape))
        graph.nodes.append(helper.make_node('Identity', [result], [name], name=name))
    described = _described(network.inputs), _described(network.outputs)
    model = helper.make_model(
        helper.make_graph(graph.nodes, 'hybrik_jax', *described, graph.constants),
        opset_imports=[helper.make_opsetid('', onnx_graph.OPSET)],
        ir_version=FORMAT,
        producer_name='hybrik_jax',
    )
    helper.set_model_props(model, {name: _text(value) for name, value in network.described().items()})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _described(arrays: Sequence[Array]) -> list[Any]:
    """Returns inputs or outputs as ONNX describes them."""
    from onnx import helper

    described = []
    for one in arrays:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(one.kind))
        shape = [PEOPLE, *one.shape]
        described.append(helper.make_tensor_value_info(one.name, kind, shape, doc_string=one.meaning))
    return described


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, allow_nan=False)


def session(content: bytes, *, threads: int = 0) -> Any:
    """Returns onnxruntime's session of a serialised network, on the CPU; 0 threads: as many as it likes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=['CPUExecutionProvider'])


def run(content: bytes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs that a serialised network gives for inputs."""
    running = session(content)
    names = [one.name for one in running.get_outputs()]
    return dict(zip(names, running.run(names, inputs), strict=True))
