"""A network for other programs: a function of arrays alone, with what whoever calls it has to know."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

PEOPLE = 'people'  # the size of every leading axis, which is left open
CLOSE_M = 1e-3  # what joints and vertices of a file may differ by from its network's


@dataclasses.dataclass(frozen=True)
class Array:
    """One input or output of a network for other programs.

    name: as the file has it.
    shape: without the leading axis, which counts people.
    kind: the type of its numbers, such as 'float32'.
    meaning: unit, frame and order, in words.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    meaning: str


@dataclasses.dataclass(frozen=True)
class Deployable:
    """A network for other programs.

    function: takes the inputs in their order and gives a dict of the outputs; it holds all parameters.
    inputs, outputs: what they are.
    about: what else a file says of the network: names -> JSON.
    """

    function: Callable[..., dict[str, jax.Array]]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    about: dict[str, Any]

    def described(self) -> dict[str, Any]:
        """Returns all that a file says of the network: inputs, outputs, and what it is about."""
        arrays = {
            side: [
                {'name': one.name, 'shape': [PEOPLE, *one.shape], 'kind': one.kind, 'meaning': one.meaning}
                for one in getattr(self, side)
            ]
            for side in ('inputs', 'outputs')
        }
        return arrays | self.about


def differences(
    network: Deployable, said: dict[str, np.ndarray], inputs: dict[str, np.ndarray]
) -> dict[str, float]:
    """Returns output -> how far what a file says of inputs is from the network's own answer at the most.

    Raises:
        ValueError: an output is missing or not finite, or joints or vertices differ by more than `CLOSE_M`.
    """
    expected = {
        name: np.asarray(array) for name, array in jax.jit(network.function)(*inputs.values()).items()
    }
    if expected.keys() != said.keys():
        raise ValueError(f'What was written gives {sorted(said)}, the network {sorted(expected)}.')
    found = {name: float(np.abs(said[name] - array).max()) for name, array in expected.items()}
    for name, most in found.items():
        if not np.isfinite(most) or (name in ('joints_m', 'vertices_m') and most > CLOSE_M):
            raise ValueError(
                f'What was written says other {name} than the network itself, by {most:.2g}: it is not kept. '
                f'Joints and vertices may differ by {CLOSE_M:g} m. Please report it with your versions.'
            )
    return found
