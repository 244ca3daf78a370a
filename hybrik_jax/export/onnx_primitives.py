"""JAX's primitives as ONNX nodes: those that the networks of this package use, and no others.

Another one is a function of graph, equation and values of its inputs, and an entry of `LOWERINGS`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from onnx import helper

from hybrik_jax.export.onnx_graph import Graph, Value, constant

# Primitives of one number each, as ONNX and NumPy call them.
_ELEMENTWISE: dict[str, tuple[str, Callable]] = {
    'add': ('Add', np.add),
    'sub': ('Sub', np.subtract),
    'mul': ('Mul', np.multiply),
    'div': ('Div', np.divide),
    'max': ('Max', np.maximum),
    'min': ('Min', np.minimum),
    'gt': ('Greater', np.greater),
    'ge': ('GreaterOrEqual', np.greater_equal),
    'lt': ('Less', np.less),
    'le': ('LessOrEqual', np.less_equal),
    'eq': ('Equal', np.equal),
    'and': ('And', np.logical_and),
    'or': ('Or', np.logical_or),
    'not': ('Not', np.logical_not),
    'neg': ('Neg', np.negative),
    'abs': ('Abs', np.abs),
    'sqrt': ('Sqrt', np.sqrt),
    'exp': ('Exp', np.exp),
    'tanh': ('Tanh', np.tanh),
    'logistic': ('Sigmoid', lambda x: 1 / (1 + np.exp(-x))),
}
# Primitives that stand for a jaxpr, and the parameter that holds it.
_CALLS = {
    'jit': 'jaxpr',
    'remat2': 'jaxpr',
    'checkpoint': 'jaxpr',
    'closed_call': 'call_jaxpr',
    'custom_jvp_call': 'call_jaxpr',
    'custom_vjp_call': 'call_jaxpr',
}


def trace(graph: Graph, jaxpr: Jaxpr, constants: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """Returns the outputs of a jaxpr, whose nodes are added to a graph.

    Raises:
        NotImplementedError: naming what cannot be written.
    """
    known: dict[Any, Value] = dict(zip(jaxpr.constvars, map(constant, constants), strict=True))
    known |= zip(jaxpr.invars, inputs, strict=True)

    def read(variable: Any) -> Value:
        return constant(variable.val) if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        name, values = equation.primitive.name, [read(variable) for variable in equation.invars]
        if name in _CALLS:
            outputs = _call(graph, equation.params[_CALLS[name]], values)
        elif name in _ELEMENTWISE:
            outputs = [graph.elementwise(*_ELEMENTWISE[name], values)]
        elif name in LOWERINGS:
            outputs = LOWERINGS[name](graph, equation, values)
            outputs = outputs if isinstance(outputs, list) else [outputs]
        else:
            raise NotImplementedError(f'No ONNX is written for {name!r}, which this network uses.')
        known |= zip(equation.outvars, outputs, strict=True)
    return [read(variable) for variable in jaxpr.outvars]


def _call(graph: Graph, inner: ClosedJaxpr | Jaxpr, values: Sequence[Value]) -> list[Value]:
    if isinstance(inner, ClosedJaxpr):
        return trace(graph, inner.jaxpr, inner.consts, values)
    return trace(graph, inner, (), values)


def _whole(graph: Graph, equation: Any, values: Sequence[Value], index: int = 0) -> Value:
    """Returns one input of an equation, repeated to the shape that it has in JAX."""
    return graph.full(values[index], equation.invars[index].aval.shape)


def _shape(equation: Any) -> tuple[Any, ...]:
    return equation.outvars[0].aval.shape


def _scan(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    """Returns what a loop gives, written out."""
    params = equation.params
    if params['reverse']:
        raise NotImplementedError('No ONNX is written for loops that run backwards.')
    shared, carried = params['num_consts'], params['num_consts'] + params['num_carry']
    carry, steps = values[shared:carried], []
    for step in range(params['length']):
        rows = [graph.row(value, step) for value in values[carried:]]
        outputs = _call(graph, params['jaxpr'], [*values[:shared], *carry, *rows])
        carry = outputs[: params['num_carry']]
        steps.append(outputs[params['num_carry'] :])
    columns = zip(zip(*steps, strict=True), params['jaxpr'].out_avals[params['num_carry'] :], strict=True)
    return [*carry, *(graph.stacked(column, aval.shape, 0) for column, aval in columns)]


def _platform_index(graph: Graph, equation: Any, values: list[Value]) -> Value:
    """Returns which branch is for devices of other makers than those named: a file is for any."""
    return constant(np.int32(equation.params['platforms'].index(None)))


def _cond(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    if values[0].array is None:
        raise NotImplementedError('No ONNX is written for branches that are chosen by what is computed.')
    return _call(graph, equation.params['branches'][int(values[0].array)], values[1:])


# ---- numbers


def _select_n(graph: Graph, equation: Any, values: list[Value]) -> Value:
    which, otherwise, chosen = values
    return graph.elementwise('Where', np.where, [which, chosen, otherwise])


def _clamp(graph: Graph, equation: Any, values: list[Value]) -> Value:
    low, x, high = values
    return graph.elementwise('Min', np.minimum, [graph.elementwise('Max', np.maximum, [low, x]), high])


def _ne(graph: Graph, equation: Any, values: list[Value]) -> Value:
    return graph.elementwise(*_ELEMENTWISE['not'], [graph.elementwise(*_ELEMENTWISE['eq'], values)])


def _rsqrt(graph: Graph, equation: Any, values: list[Value]) -> Value:
    root = graph.elementwise(*_ELEMENTWISE['sqrt'], values)
    return graph.elementwise('Reciprocal', np.reciprocal, [root])


def _square(graph: Graph, equation: Any, values: list[Value]) -> Value:
    return graph.elementwise(*_ELEMENTWISE['mul'], values * 2)


def _integer_pow(graph: Graph, equation: Any, values: list[Value]) -> Value:
    if equation.params['y'] < 1:
        raise NotImplementedError('No ONNX is written for powers below one.')
    result = values[0]
    for _ in range(equation.params['y'] - 1):
        result = graph.elementwise(*_ELEMENTWISE['mul'], [result, values[0]])
    return result


def _same(graph: Graph, equation: Any, values: list[Value]) -> Value:
    return values[0]


def _convert_element_type(graph: Graph, equation: Any, values: list[Value]) -> Value:
    kind = np.dtype(equation.params['new_dtype'])
    if values[0].array is not None:
        return constant(values[0].array.astype(kind))
    return graph.node('Cast', values, values[0].shape, to=helper.np_dtype_to_tensor_dtype(kind))


def _iota(graph: Graph, equation: Any, values: list[Value]) -> Value:
    shape, axis = equation.params['shape'], equation.params['dimension']
    steps = np.arange(shape[axis], dtype=equation.params['dtype'])
    return constant(steps.reshape([-1 if k == axis else 1 for k in range(len(shape))]))


# ---- shapes


def _broadcast_in_dim(graph: Graph, equation: Any, values: list[Value]) -> Value:
    kept = equation.params['broadcast_dimensions']
    return graph.unsqueezed(values[0], [k for k in range(len(equation.params['shape'])) if k not in kept])


def _squeeze(graph: Graph, equation: Any, values: list[Value]) -> Value:
    return graph.squeezed(values[0], equation.params['dimensions'])


def _expand_dims(graph: Graph, equation: Any, values: list[Value]) -> Value:
    return graph.unsqueezed(values[0], equation.params['dimensions'])


def _reshape(graph: Graph, equation: Any, values: list[Value]) -> Value:
    return graph.reshaped(_whole(graph, equation, values), _shape(equation))


def _transpose(graph: Graph, equation: Any, values: list[Value]) -> Value:
    return graph.transposed(values[0], equation.params['permutation'])


def _concatenate(graph: Graph, equation: Any, values: list[Value]) -> Value:
    whole = [_whole(graph, equation, values, k) for k in range(len(values))]
    axis = equation.params['dimension']
    if all(value.array is not None for value in whole):
        return constant(np.concatenate([value.array for value in whole], axis))
    return graph.node('Concat', whole, _shape(equation), axis=axis)


def _stack(graph: Graph, equation: Any, values: list[Value]) -> Value:
    return graph.stacked(values, equation.invars[0].aval.shape, equation.params['axis'])


def _slice(graph: Graph, equation: Any, values: list[Value]) -> Value:
    params, shape = equation.params, equation.invars[0].aval.shape
    steps = params['strides'] or (1,) * len(shape)
    bounds = enumerate(zip(params['start_indices'], params['limit_indices'], steps, strict=True))
    return graph.sliced(values[0], {k: bound for k, bound in bounds if bound != (0, shape[k], 1)})


def _split(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    axis, ends = equation.params['axis'], np.cumsum(equation.params['sizes']).tolist()
    x = _whole(graph, equation, values)
    return [graph.sliced(x, {axis: (a, b, 1)}) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


def _rev(graph: Graph, equation: Any, values: list[Value]) -> Value:
    axes, x = np.array(equation.params['dimensions']), _whole(graph, equation, values)
    if x.array is not None:
        return constant(np.flip(x.array, axes))
    back, before_all = np.full(len(axes), -1), np.full(len(axes), np.iinfo(np.int64).min)
    return graph.node('Slice', [x, back, before_all, axes, back], x.shape)


def _pad(graph: Graph, equation: Any, values: list[Value]) -> Value:
    low, high, inside = zip(*equation.params['padding_config'], strict=True)
    if any(inside) or min(*low, *high) < 0:
        raise NotImplementedError('No ONNX is written for padding between entries, or that takes some away.')
    pads = np.array(low + high, np.int64)
    return graph.node('Pad', [_whole(graph, equation, values), pads, values[1]], _shape(equation))


def _gather(graph: Graph, equation: Any, values: list[Value]) -> Value:
    """Returns one part of an array, or entries along one axis, at places that are constant."""
    numbers, sizes = equation.params['dimension_numbers'], equation.params['slice_sizes']
    x, indices = _whole(graph, equation, values), values[1].array
    axes, gone = numbers.start_index_map, numbers.collapsed_slice_dims
    if indices is None or numbers.operand_batching_dims:
        raise NotImplementedError('No ONNX is written for indices that are not constant.')
    if indices.ndim == 1:
        starts = zip(axes, indices.tolist(), strict=True)
        part = graph.sliced(x, {axis: (start, start + sizes[axis], 1) for axis, start in starts})
        return graph.squeezed(part, gone)
    if len(axes) != 1 or gone != axes:
        raise NotImplementedError('No ONNX is written for indices along several axes.')
    (axis,), places, shape = axes, indices[..., 0].astype(np.int64), _shape(equation)
    # ONNX leaves the axes of the indices in place of the old one; JAX says where they are.
    rows = [k for k in range(len(shape)) if k not in numbers.offset_dims]
    order = [*numbers.offset_dims[:axis], *rows, *numbers.offset_dims[axis:]]
    picked = graph.node('Gather', [x, places], [shape[k] for k in order], axis=axis)
    return graph.transposed(picked, np.argsort(order).tolist())


# ---- sums


def _reduce(kind: str) -> Callable:
    def lower(graph: Graph, equation: Any, values: list[Value]) -> Value:
        axes = np.array(equation.params['axes'], np.int64)
        return graph.node(kind, [_whole(graph, equation, values), axes], _shape(equation), keepdims=0)

    return lower


def _reduce_and(graph: Graph, equation: Any, values: list[Value]) -> Value:
    numbers = graph.node('Cast', values, values[0].shape, to=onnx.TensorProto.INT32)
    least = _reduce('ReduceMin')(graph, equation, [numbers])
    return graph.node('Cast', [least], least.shape, to=onnx.TensorProto.BOOL)


def _argmax(graph: Graph, equation: Any, values: list[Value]) -> Value:
    (axis,), x = equation.params['axes'], _whole(graph, equation, values)
    place = graph.node('ArgMax', [x], _shape(equation), axis=axis, keepdims=0)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(equation.params['index_dtype']))
    return graph.node('Cast', [place], place.shape, to=kind)


def _dot_general(graph: Graph, equation: Any, values: list[Value]) -> Value:
    """Returns a product of arrays: both are laid out as (shared axes..., rows, columns)."""
    (summed, shared), sides = equation.params['dimension_numbers'], []
    for k in range(2):
        x = _whole(graph, equation, values, k)
        free = [axis for axis in range(len(x.shape)) if axis not in (*summed[k], *shared[k])]
        sides.append((x, list(shared[k]), list(summed[k]), free))
    (a, a_shared, a_summed, a_free), (b, b_shared, b_summed, b_free) = sides
    if not a_shared and len(a_summed) == 1 and a_free:  # rows of any number of axes, times one matrix
        a = graph.transposed(a, [*a_free, *a_summed])
    else:
        a = _as_matrices(graph, a, a_shared, a_free, a_summed)
    b = _as_matrices(graph, b, b_shared, b_summed, b_free)
    product = graph.node('MatMul', [a, b], (*a.shape[:-1], b.shape[-1]))
    return graph.reshaped(product, _shape(equation))


def _as_matrices(
    graph: Graph, x: Value, shared: Sequence[int], rows: Sequence[int], columns: Sequence[int]
) -> Value:
    sizes = [math.prod(x.shape[axis] for axis in axes) for axes in (rows, columns)]
    shape = [*(x.shape[axis] for axis in shared), *sizes]
    return graph.reshaped(graph.transposed(x, [*shared, *rows, *columns]), shape)


def _conv_general_dilated(graph: Graph, equation: Any, values: list[Value]) -> Value:
    params, order = equation.params, equation.params['dimension_numbers']
    weights = graph.transposed(values[1], order.rhs_spec).array  # (out, in, rows, columns)
    if weights is None or params['batch_group_count'] != 1:
        raise NotImplementedError('No ONNX is written for convolutions by weights that are not constant.')
    x = graph.transposed(_whole(graph, equation, values), order.lhs_spec)
    low, high = zip(*params['padding'], strict=True)
    strides, spread, window = params['window_strides'], params['lhs_dilation'], weights.shape[2:]
    after = [_shape(equation)[axis] for axis in order.out_spec]
    if max(spread) == 1:
        options = {'strides': strides, 'pads': [*low, *high], 'dilations': params['rhs_dilation']}
        options |= {'group': params['feature_group_count'], 'kernel_shape': window}
        result = graph.node('Conv', [x, weights], after, **options)
    elif max(strides) == max(params['rhs_dilation']) == params['feature_group_count'] == 1:
        # With zeros between the pixels it is what ONNX calls transposed, by the weights turned round.
        turned = np.flip(weights, (2, 3)).swapaxes(0, 1)
        cut = [size - 1 - pad for pads in (low, high) for size, pad in zip(window, pads, strict=True)]
        options = {'strides': spread, 'pads': cut, 'kernel_shape': window}
        result = graph.node('ConvTranspose', [x, turned], after, **options)
    else:
        raise NotImplementedError(
            'No ONNX is written for convolutions with strides and zeros between pixels.'
        )
    return graph.transposed(result, np.argsort(order.out_spec).tolist())


LOWERINGS: dict[str, Callable[[Graph, Any, list[Value]], Value | list[Value]]] = {
    'scan': _scan,
    'platform_index': _platform_index,
    'cond': _cond,
    'select_n': _select_n,
    'clamp': _clamp,
    'ne': _ne,
    'rsqrt': _rsqrt,
    'square': _square,
    'integer_pow': _integer_pow,
    'stop_gradient': _same,
    'copy': _same,
    'convert_element_type': _convert_element_type,
    'iota': _iota,
    'broadcast_in_dim': _broadcast_in_dim,
    'squeeze': _squeeze,
    'expand_dims': _expand_dims,
    'reshape': _reshape,
    'transpose': _transpose,
    'concatenate': _concatenate,
    'stack': _stack,
    'slice': _slice,
    'split': _split,
    'rev': _rev,
    'pad': _pad,
    'gather': _gather,
    'reduce_sum': _reduce('ReduceSum'),
    'reduce_max': _reduce('ReduceMax'),
    'reduce_min': _reduce('ReduceMin'),
    'reduce_and': _reduce_and,
    'argmax': _argmax,
    'dot_general': _dot_general,
    'conv_general_dilated': _conv_general_dilated,
}
