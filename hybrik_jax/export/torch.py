"""Parameters from and to the names and layouts of PyTorch checkpoints.

One table (`HYBRIK_TABLE`) says what each of our modules is called there; both directions read it. Files are
read and written by `torch_file`, without PyTorch.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

# Our parameter name -> PyTorch's, for each kind of module.
CONVOLUTION = LINEAR = {'kernel': 'weight', 'bias': 'bias'}
BATCH_NORM = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}
LAYER_NORM = {'scale': 'a_2', 'shift': 'b_2'}

# Rows of a table: pattern of our module path, PyTorch's module name, names of the parameters in it. The
# parameters of an empty module path are the tables of embeddings.
Table = tuple[tuple[str, str, Mapping[str, str]], ...]


def backbone_rows(ours: str, theirs: str) -> Table:
    """Returns the rows of a ResNet whose module paths start with `ours` and, at PyTorch, with `theirs`."""
    block, foreign_block = ours + r'layer(\d+)_(\d+)/', theirs + r'layer\1.\2.'
    return (
        (ours + 'conv1', theirs + 'conv1', CONVOLUTION),
        (ours + 'bn1', theirs + 'bn1', BATCH_NORM),
        (block + r'conv(\d)', foreign_block + r'conv\3', CONVOLUTION),
        (block + r'bn(\d)', foreign_block + r'bn\3', BATCH_NORM),
        (block + 'shortcut_conv', foreign_block + 'downsample.0', CONVOLUTION),
        (block + 'shortcut_bn', foreign_block + 'downsample.1', BATCH_NORM),
    )


TRANSFORMER_ROWS = (
    (
        'lifting',
        '',
        {
            'joint_embeddings': 'joint_embeddings',
            'type_embeddings': 'type_embeddings',
            'row_codes': 'pos_embedding.row_embed.weight',
            'column_codes': 'pos_embedding.col_embed.weight',
        },
    ),
    ('lifting/project_sources', 'transformer.input_projection_src', LINEAR),
    ('lifting/project_queries', 'transformer.input_projection_tgt', LINEAR),
    ('lifting/project_back', 'transformer.output_projection', LINEAR),
    *(
        (
            rf'lifting/block(\d+)/{role}_attention/{part}',
            rf'transformer.mha_{foreign}.\1.linear_{part[0]}',
            LINEAR,
        )
        for role, foreign in (('source', 'src'), ('query', 'tgt'), ('cross', 'cross'))
        for part in ('query', 'key', 'value', 'out')
    ),
    *(
        (rf'lifting/block(\d+)/{role}_norm', rf'transformer.layer_norm_{foreign}.\1', LAYER_NORM)
        for role, foreign in (('source', 'src'), ('query', 'tgt'), ('cross', 'cross'))
    ),
    *(
        (rf'lifting/block(\d+)/{role}_ffn/linear(\d+)', rf'transformer.ffn_{foreign}.\1.fc_layers.\2', LINEAR)
        for role, foreign in (('source', 'src'), ('query', 'tgt'))
    ),
    *(
        (rf'lifting/block(\d+)/{role}_ffn/norm', rf'transformer.ffn_{foreign}.\1.layer_norm', LAYER_NORM)
        for role, foreign in (('source', 'src'), ('query', 'tgt'))
    ),
)
DECONV_ROWS = (
    *((f'lifting/deconv{i}', f'deconv_layers.{3 * i}', CONVOLUTION) for i in range(3)),
    *((f'lifting/deconv_bn{i}', f'deconv_layers.{3 * i + 1}', BATCH_NORM) for i in range(3)),
    ('lifting/volumes', 'final_layer', CONVOLUTION),
    ('lifting/linear0', 'fc1', LINEAR),
    ('lifting/linear1', 'fc2', LINEAR),
)
HEAD_ROWS = (
    ('lifting/head_joints', 'decjoint', LINEAR),
    ('lifting/head_twists', 'decphi', LINEAR),
    ('lifting/head_leaves', 'decleaf', LINEAR),
    ('lifting/head_betas', 'decshape', LINEAR),
)
HYBRIK_TABLE: Table = (*backbone_rows('backbone/', 'preact.'), *TRANSFORMER_ROWS, *DECONV_ROWS, *HEAD_ROWS)
TORCHVISION_TABLE: Table = backbone_rows('backbone/', '')

# What files hold beside parameters: the body model, the mean shape, counters; and torchvision's classifier.
IGNORED = re.compile(r'smpl\..*|init_shape|init_cam|.*num_batches_tracked')
CLASSIFIER = re.compile(r'fc\..*')


def torch_name(path: tuple[str, ...], table: Table = HYBRIK_TABLE) -> str:
    """Returns what PyTorch calls the variable at `path`, such as ('params', 'backbone', 'conv1', 'kernel').

    Raises:
        ValueError: if the table has no row for it.
    """
    module, leaf = '/'.join(path[1:-1]), path[-1]
    for ours, theirs, leaves in table:
        match = re.fullmatch(ours, module)
        if match and leaf in leaves:
            return '.'.join(filter(None, (match.expand(theirs), leaves[leaf])))
    raise ValueError(f'No PyTorch name is known for {"/".join(path)!r}: add a row to the table.')


def _to_torch_layout(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    """Returns a kernel as PyTorch stores it, other arrays as they are.

    Linear (in, out) -> (out, in); convolution (h, w, in, out) -> (out, in, h, w); transposed convolution
    (h, w, out, in) -> (in, out, h, w), the same permutation.
    """
    if path[-1] != 'kernel':
        return array
    return array.transpose((1, 0) if array.ndim == 2 else (3, 2, 0, 1))


def _from_torch_layout(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    """Returns the inverse of `_to_torch_layout`."""
    if path[-1] != 'kernel':
        return array
    return array.transpose((1, 0) if array.ndim == 2 else (2, 3, 1, 0))


def _torch_shape(path: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape that PyTorch gives the variable of our `shape`."""
    return _to_torch_layout(path, np.broadcast_to(np.float32(0), shape)).shape


def bare_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries without data-parallel training's `module.` before their names."""
    return {name.removeprefix('module.'): value for name, value in state_dict.items()}


def clean_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries that are parameters or statistics, without data-parallel training's `module.`."""
    return {name: value for name, value in bare_names(state_dict).items() if not IGNORED.fullmatch(name)}


def mean_shape(state_dict: Mapping[str, Any]) -> np.ndarray | None:
    """Returns the mean shape (10,) float32 in a released file, its `init_shape`; None if it has none.

    Raises:
        ValueError: if it is not ten finite numbers.
    """
    entry = bare_names(state_dict).get('init_shape')
    if entry is None:
        return None
    betas = np.asarray(entry, np.float32).reshape(-1)
    if betas.shape != (10,) or not np.isfinite(betas).all():
        raise ValueError(
            f'init_shape, the mean shape, has the shape {np.shape(entry)}: not ten finite numbers.'
        )
    return betas


def from_state_dict(
    state_dict: Mapping[str, Any], template: Mapping[str, Any], table: Table = HYBRIK_TABLE
) -> dict[str, Any]:
    """Returns `template` with every leaf taken from `state_dict`, float32 NumPy arrays.

    Args:
        state_dict: PyTorch name -> array; `smpl.*`, `init_shape`, `init_cam` and `num_batches_tracked` are
            left aside and a prefix `module.` is taken off.
        template: variables {'params': ..., 'batch_stats': ...}; only shapes are read, so that the result of
            `jax.eval_shape(functools.partial(initialise, model, image_size=256), key)` will do.
        table: which of our modules is called what.
    Raises:
        ValueError: naming at once every entry that is missing, unexpected, of a wrong shape or not finite.
    """
    entries = clean_names(state_dict)
    variables, expected, wrong, broken = {}, {}, [], []
    for path, leaf in traverse_util.flatten_dict(template).items():
        name = torch_name(path, table)
        expected[name] = _torch_shape(path, leaf.shape)
        if name not in entries:
            continue
        if np.shape(entries[name]) != expected[name]:
            wrong.append(f'{name} is {np.shape(entries[name])}, expected {expected[name]}')
            continue
        array = np.asarray(entries[name], np.float32)
        if not np.isfinite(array).all():
            broken.append(f'{name} has {(~np.isfinite(array)).sum()} of {array.size} numbers')
        variables[path] = np.ascontiguousarray(_from_torch_layout(path, array))
    problems = [
        f'{what}:\n  ' + '\n  '.join(sorted(names))
        for what, names in (
            ('missing', expected.keys() - entries.keys()),
            ('unexpected', entries.keys() - expected.keys()),
            ('wrong shape', wrong),
            ('not finite', broken),
        )
        if names
    ]
    if problems:
        raise ValueError(
            'These weights do not fit the network that the config describes; compare '
            'model.backbone.depth, model.lifting and its options.\n' + '\n'.join(problems)
        )
    return traverse_util.unflatten_dict(variables)


def to_state_dict(variables: Mapping[str, Any], table: Table = HYBRIK_TABLE) -> dict[str, np.ndarray]:
    """Returns PyTorch name -> float32 array of every parameter and batch statistic."""
    leaves = traverse_util.flatten_dict(variables)
    return {
        torch_name(path, table): np.array(_to_torch_layout(path, np.asarray(leaf)), np.float32, order='C')
        for path, leaf in leaves.items()
    }


def buffers(
    state_dict: Mapping[str, np.ndarray], *, init_betas: np.ndarray, updates: int
) -> dict[str, np.ndarray]:
    """Returns what the original modules hold beside the parameters in `state_dict` and ask for when loading.

    Args:
        init_betas: (10,) the mean shape, their `init_shape`.
        updates: that were done, their counter at every batch normalisation.
    """
    norms = [name.removesuffix('running_var') for name in state_dict if name.endswith('.running_var')]
    counters = {f'{name}num_batches_tracked': np.array(updates, np.int64) for name in norms}
    return counters | {'init_shape': np.asarray(init_betas, np.float32)}


def load_backbone(state_dict: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `variables` with the backbone's parameters and statistics taken from `state_dict`.

    Args:
        state_dict: torchvision's own ResNet (no prefix; the classifier `fc.*` is left aside), or a whole
            HybrIK network, of which only `preact.*` is read.
    Raises:
        ValueError: as `from_state_dict`.
    """
    entries = clean_names(state_dict)
    whole = any(name.startswith('preact.') for name in entries)
    if whole:
        entries = {
            name.removeprefix('preact.'): value
            for name, value in entries.items()
            if name.startswith('preact.')
        }
    else:
        entries = {name: value for name, value in entries.items() if not CLASSIFIER.fullmatch(name)}
    backbone = from_state_dict(
        entries,
        {
            collection: {'backbone': variables[collection]['backbone']}
            for collection in ('params', 'batch_stats')
        },
        TORCHVISION_TABLE,
    )
    return {
        **variables,
        **{collection: {**variables[collection], **backbone[collection]} for collection in backbone},
    }
