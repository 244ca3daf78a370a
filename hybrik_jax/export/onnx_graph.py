"""The nodes of an ONNX graph as they are collected: arrays, their shapes, and what is done with shapes.

How many people there are stays open. An array that JAX repeats along an axis is kept once, with a size of one
there, for as long as those who read it repeat it themselves.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 18
Shape = Sequence[Any]  # of ints, and of multiples of what `jax.export.symbolic_shape` gives
_COMPARISONS = ('Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual', 'Equal')


@dataclasses.dataclass(frozen=True)
class Value:
    """An array of the graph: an input, the result of a node, or a constant.

    shape: what the graph holds: 1 where an array is the same along an axis, however long that is in JAX.
    name: '' of a constant.
    array: the constant; None of others.
    """

    shape: tuple[Any, ...]
    name: str = ''
    array: np.ndarray | None = None


def constant(array: Any) -> Value:
    """Returns an array as a value."""
    array = np.asarray(array)
    return Value(array.shape, array=array)


class Graph:
    """Nodes and constants, to which every method adds what it needs.

    nodes, constants: as ONNX has them.

    Args:
        people: the symbol of the size that is left open.
        input_of_people: the name of an input whose leading axis has that size.
    """

    def __init__(self, people: Any, input_of_people: str):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._people, self._input_of_people = people, input_of_people
        self._numbers = itertools.count()
        self._sizes: dict[int, Value] = {}  # multiples of people, (1,)
        self._names: dict[tuple, str] = {}  # of constants, by what they hold

    def node(
        self, kind: str, inputs: Sequence[Value | str | np.ndarray], shape: Shape, **options: Any
    ) -> Value:
        """Returns the result of a new node, of `shape`; inputs are values, names, or constants."""
        name = f'{kind}_{next(self._numbers)}'
        names = [self.name_of(one) for one in inputs]
        self.nodes.append(helper.make_node(kind, names, [name], name=name, **options))
        return Value(tuple(shape), name)

    def name_of(self, value: Value | str | np.ndarray) -> str:
        """Returns the name of a value; a constant enters the graph when it is asked for."""
        if isinstance(value, str):
            return value
        array = value if isinstance(value, np.ndarray) else value.array
        if array is None:
            return value.name
        key = str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).digest()
        if key not in self._names:
            self._names[key] = f'constant_{next(self._numbers)}'
            self.constants.append(numpy_helper.from_array(array, self._names[key]))
        return self._names[key]

    def elementwise(self, kind: str, function: Callable, values: Sequence[Value]) -> Value:
        """Returns what a node makes of values that it repeats as NumPy does; of constants, a constant.

        Args:
            function: NumPy's, the same.
        """
        if all(value.array is not None for value in values):
            arrays = [value.array for value in values]
            return constant(function(*arrays).astype(bool if kind in _COMPARISONS else arrays[-1].dtype))
        rank = max(len(value.shape) for value in values)
        shapes = [(1,) * (rank - len(value.shape)) + value.shape for value in values]
        shape = [next((size for size in sizes if size != 1), 1) for sizes in zip(*shapes, strict=True)]
        return self.node(kind, values, shape)

    def full(self, value: Value, shape: Shape) -> Value:
        """Returns a value, repeated where it has less than `shape`."""
        if value.shape == tuple(shape):
            return value
        if value.array is not None and all(isinstance(size, int) for size in shape):
            return constant(np.broadcast_to(value.array, shape))
        wanted = [1 if own == size else size for own, size in zip(value.shape, shape, strict=True)]
        return self.node('Expand', [value, self._vector(wanted)], shape)

    def reshaped(self, value: Value, shape: Shape) -> Value:
        """Returns a value in another shape of as many entries, in which one size at the most is open."""
        if value.shape == tuple(shape):
            return value
        if value.array is not None:
            return constant(value.array.reshape(shape))
        sizes = np.array([size if isinstance(size, int) else -1 for size in shape], np.int64)
        return self.node('Reshape', [value, sizes], shape)

    def unsqueezed(self, value: Value, axes: Sequence[int]) -> Value:
        """Returns a value with new axes of length one, at these places of the result."""
        if not axes:
            return value
        if value.array is not None:
            return constant(np.expand_dims(value.array, tuple(axes)))
        shape = list(value.shape)
        for axis in sorted(axes):
            shape.insert(axis, 1)
        return self.node('Unsqueeze', [value, np.array(axes, np.int64)], shape)

    def squeezed(self, value: Value, axes: Sequence[int]) -> Value:
        """Returns a value without these axes of length one."""
        if not axes:
            return value
        if value.array is not None:
            return constant(np.squeeze(value.array, tuple(axes)))
        shape = [size for axis, size in enumerate(value.shape) if axis not in axes]
        return self.node('Squeeze', [value, np.array(axes, np.int64)], shape)

    def transposed(self, value: Value, order: Sequence[int]) -> Value:
        """Returns a value with its axes in another order."""
        if list(order) == sorted(order):
            return value
        if value.array is not None:
            return constant(value.array.transpose(order))
        return self.node('Transpose', [value], [value.shape[axis] for axis in order], perm=list(order))

    def sliced(self, value: Value, bounds: dict[int, tuple[Any, Any, int]]) -> Value:
        """Returns part of a value: axis -> (start, end, step). What is kept once along an axis stays so."""
        bounds = {axis: bound for axis, bound in bounds.items() if value.shape[axis] != 1}
        if not bounds:
            return value
        if value.array is not None:
            whole = enumerate([slice(None)] * value.array.ndim)
            return constant(value.array[tuple(slice(*bounds.get(k, (None,))) for k, _ in whole)])
        shape = list(value.shape)
        for axis, (start, end, step) in bounds.items():
            shape[axis] = (end - start + step - 1) // step
        starts, ends, steps = zip(*bounds.values(), strict=True)
        vectors = [self._vector(starts), self._vector(ends), np.array(list(bounds)), np.array(steps)]
        return self.node('Slice', [value, *vectors], shape)

    def row(self, value: Value, index: int) -> Value:
        """Returns value[index]."""
        return self.squeezed(self.sliced(value, {0: (index, index + 1, 1)}), [0])

    def stacked(self, values: Sequence[Value], shape: Shape, axis: int) -> Value:
        """Returns values, each of `shape`, along a new axis."""
        rows = [self.unsqueezed(self.full(value, shape), [axis]) for value in values]
        return self.node('Concat', rows, (*shape[:axis], len(rows), *shape[axis:]), axis=axis)

    def _vector(self, sizes: Shape) -> Value | np.ndarray:
        """Returns sizes as a vector; of those that are open, what they are in the end."""
        if all(isinstance(size, int) for size in sizes):
            return np.array(sizes, np.int64)
        parts = [np.array([x], np.int64) if isinstance(x, int) else self._open_size(x) for x in sizes]
        return parts[0] if len(parts) == 1 else self.node('Concat', parts, [len(parts)], axis=0)

    def _open_size(self, size: Any) -> Value:
        times = int(size // self._people)
        if times not in self._sizes:
            people = self.node('Shape', [self._input_of_people], [1], start=0, end=1)
            self._sizes[times] = self.node('Mul', [people, np.array([times], np.int64)], [1])
        return self._sizes[times]
