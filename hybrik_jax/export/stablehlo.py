"""Networks as StableHLO: what `jax.export` writes, for JAX without this package, on any kind of device.

    import jax

    with open('network.stablehlo', 'rb') as file:
        network = jax.jit(jax.export.deserialize(bytearray(file.read())).call)
    said = network(image, crop_to_photo, inverse_intrinsics, root_depth_m)  # a dict, see network.json

Reading needs jax and flatbuffers.
"""

import importlib.util

import jax
import numpy as np

from hybrik_jax.export.deployable import PEOPLE, Deployable

PLATFORMS = ('cpu', 'cuda', 'tpu')
NEEDED = 'StableHLO needs one package more: pip install "flatbuffers>=25.2.10"'


def serialise(network: Deployable) -> bytes:
    """Returns a network of any number of people, to be run on `PLATFORMS`.

    Raises:
        ValueError: flatbuffers is not installed.
    """
    if importlib.util.find_spec('flatbuffers') is None:
        raise ValueError(f'{NEEDED}.')
    (people,) = jax.export.symbolic_shape(PEOPLE)
    shapes = [jax.ShapeDtypeStruct((people, *one.shape), np.dtype(one.kind)) for one in network.inputs]
    exported = jax.export.export(jax.jit(network.function), platforms=PLATFORMS)(*shapes)
    return bytes(exported.serialize())


def run(content: bytes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the outputs that a serialised network gives for inputs, in the order of its own."""
    said = jax.jit(jax.export.deserialize(bytearray(content)).call)(*inputs.values())
    return {name: np.asarray(array) for name, array in said.items()}
