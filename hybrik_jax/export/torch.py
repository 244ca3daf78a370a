"""Parameters from and to the names and layouts of PyTorch checkpoints.

A table (`HYBRIK_TABLE`, `ROOTNET_TABLE`) says what each of our modules is called there; both directions read
it. Files are read and written by `torch_file`, without PyTorch.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

# Our parameter name -> PyTorch's, for each kind of module.
CONVOLUTION = LINEAR = {'kernel': 'weight', 'bias': 'bias'}
BATCH_NORM = {'scale': 'weight', 'bias': 'bias', 'mean': 'running_mean', 'var': 'running_var'}
LAYER_NORM = {'scale': 'a_2', 'shift': 'b_2'}
EMBEDDINGS = {'joint_embeddings': 'joint_embeddings', 'type_embeddings': 'type_embeddings'}
EMBEDDINGS |= {
    'row_codes': 'pos_embedding.row_embed.weight',
    'column_codes': 'pos_embedding.col_embed.weight',
    'positions': 'light.positions',
    'queries': 'light.queries',
}

# Rows of a table: pattern of our module path, PyTorch's module name, names of the parameters in it.
Table = tuple[tuple[str, str, Mapping[str, str]], ...]


def _transformer_rows(role: str, foreign: str) -> Table:
    """Returns the rows of what every block of the Transformer has for `role`."""
    block = r'lifting/block(\d+)/' + role
    return (
        (block + r'_attention/(\w)\w+', rf'transformer.mha_{foreign}.\1.linear_\2', LINEAR),
        (block + '_norm', rf'transformer.layer_norm_{foreign}.\1', LAYER_NORM),
        (block + r'_ffn/linear(\d+)', rf'transformer.ffn_{foreign}.\1.fc_layers.\2', LINEAR),
        (block + '_ffn/norm', rf'transformer.ffn_{foreign}.\1.layer_norm', LAYER_NORM),
    )


def _block_rows(ours: str, foreign: str) -> Table:
    """Returns the rows of a backbone's residual blocks; `ours` is their names, a pattern."""
    block, foreign = f'backbone/{ours}/', f'preact.{foreign}.'
    return (
        (block + r'(?P<layer>(?:conv|bn)\d)', foreign + r'\g<layer>', CONVOLUTION | BATCH_NORM),
        (block + 'shortcut_conv', foreign + 'downsample.0', CONVOLUTION),
        (block + 'shortcut_bn', foreign + 'downsample.1', BATCH_NORM),
    )


def _unit_rows(ours: str, foreign: str) -> Table:
    """Returns the rows of a HRNet's convolutions with their normalisations."""
    return (
        (f'backbone/{ours}_conv', f'preact.{foreign}.0', CONVOLUTION),
        (f'backbone/{ours}_bn', f'preact.{foreign}.1', BATCH_NORM),
    )


HYBRIK_TABLE: Table = (
    ('backbone/conv1', 'preact.conv1', CONVOLUTION),
    ('backbone/bn1', 'preact.bn1', BATCH_NORM),
    *_block_rows(r'layer(\d+)_(\d+)', r'layer\1.\2'),
    # HRNet's.
    (r'backbone/stem(\d)_conv', r'preact.conv\1', CONVOLUTION),
    (r'backbone/stem(\d)_bn', r'preact.bn\1', BATCH_NORM),
    *_unit_rows('transition1_0', 'transition1.0'),
    *_unit_rows(r'transition(\d)_(\d)', r'transition\1.\2.0'),
    *_block_rows(r'stage(\d)_(\d)_branch(\d)_(\d)', r'stage\1.\2.branches.\3.\4'),
    *_unit_rows(r'stage(\d)_(\d)_exchange/up(\d)_(\d)', r'stage\1.\2.fuse_layers.\3.\4'),
    *_unit_rows(r'stage(\d)_(\d)_exchange/down(\d)_(\d)_(\d)', r'stage\1.\2.fuse_layers.\3.\4.\5'),
    *_block_rows(r'increase(\d)', r'incre_modules.\1.0'),
    *_unit_rows(r'downsample(\d)', r'downsamp_modules.\1'),
    *_unit_rows('features', 'final_feat_layer'),
    # EfficientNet-Lite's.
    ('backbone/stem_conv', 'preact._conv_stem', CONVOLUTION),
    ('backbone/stem_bn', 'preact._bn0', BATCH_NORM),
    (r'backbone/block(\d+)/(\w+_conv)', r'preact._blocks.\1._\2', CONVOLUTION),
    *(
        (rf'backbone/block(\d+)/{ours}_bn', rf'preact._blocks.\1._bn{number}', BATCH_NORM)
        for number, ours in enumerate(('expand', 'depthwise', 'project'))
    ),
    ('lifting', '', EMBEDDINGS),
    ('lifting/project_sources', 'transformer.input_projection_src', LINEAR),
    ('lifting/project_queries', 'transformer.input_projection_tgt', LINEAR),
    ('lifting/project_back', 'transformer.output_projection', LINEAR),
    *_transformer_rows('source', 'src'),
    *_transformer_rows('query', 'tgt'),
    *_transformer_rows('cross', 'cross'),
    # The light Transformer's, which is no PyTorch program's: our own names.
    (r'lifting/layer(\d+)/(\w+_attention)/(\w+)', r'light.layers.\1.\2.\3', LINEAR),
    (r'lifting/layer(\d+)/(\w+)', r'light.layers.\1.\2', LINEAR | BATCH_NORM),
    (r'lifting/((?:neck|source_|query_|volume_)\w+)', r'light.\1', CONVOLUTION | BATCH_NORM),
    *((f'lifting/deconv{i}', f'deconv_layers.{3 * i}', CONVOLUTION) for i in range(3)),
    *((f'lifting/deconv_bn{i}', f'deconv_layers.{3 * i + 1}', BATCH_NORM) for i in range(3)),
    ('lifting/volumes', 'final_layer', CONVOLUTION),
    ('lifting/linear0', 'fc1', LINEAR),
    ('lifting/linear1', 'fc2', LINEAR),
    ('lifting/head_joints', 'decjoint', LINEAR),
    ('lifting/head_twists', 'decphi', LINEAR),
    ('lifting/head_leaves', 'decleaf', LINEAR),
    ('lifting/head_betas', 'decshape', LINEAR),
    ('lifting/heat_map', 'preact.final_layer', CONVOLUTION),
    ('lifting/head_camera', 'deccam', LINEAR),
    ('lifting/head_sigmas', 'decsigma', LINEAR),
)

# RootNet's: the same modules below other prefixes, and its two heads.
ROOTNET_TABLE: Table = (
    *(
        (ours, f'backbone.{theirs.removeprefix("preact.")}', leaves)
        for ours, theirs, leaves in HYBRIK_TABLE
        if ours.startswith('backbone/')
    ),
    *(
        (ours, f'root.{theirs}', leaves)
        for ours, theirs, leaves in HYBRIK_TABLE
        if ours.startswith('lifting/deconv')
    ),
    ('lifting/head_xy', 'root.xy_layer', CONVOLUTION),
    ('lifting/head_depth', 'root.depth_layer', CONVOLUTION),
)

# What files hold beside parameters: the body model, the mean shape, counters.
IGNORED = re.compile(r'smpl\..*|init_shape|init_cam|.*num_batches_tracked')


def is_rootnet(variables: Mapping[str, Any]) -> bool:
    """Returns whether variables {'params': ..., ...} are a RootNet's."""
    return 'head_xy' in variables['params'].get('lifting', {})


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


# Our axes in PyTorch's order, by the number of a kernel's axes. Linear: (in, out) -> (out, in); convolution:
# (h, w, in, out) -> (out, in, h, w); transposed convolution: (h, w, out, in) -> (in, out, h, w).
_AXES = {2: (1, 0), 4: (3, 2, 0, 1)}


def _to_torch_layout(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    """Returns a kernel as PyTorch stores it, other arrays as they are."""
    return array.transpose(_AXES[array.ndim]) if path[-1] == 'kernel' else array


def _from_torch_layout(path: tuple[str, ...], array: np.ndarray) -> np.ndarray:
    return array.transpose(np.argsort(_AXES[array.ndim])) if path[-1] == 'kernel' else array


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
        raise ValueError(f'init_shape, the mean shape, has the shape {betas.shape}: not ten finite numbers.')
    return betas


def from_state_dict(state_dict: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `template` with every leaf taken from `state_dict`, float32 NumPy arrays.

    Args:
        state_dict: PyTorch name -> array; `smpl.*`, `init_shape`, `init_cam` and `num_batches_tracked` are
            left aside and a prefix `module.` is taken off.
        template: variables {'params': ..., 'batch_stats': ...} or what `jax.eval_shape` makes of them: only
            shapes are read.
    Raises:
        ValueError: naming at once every entry that is missing, unexpected, of a wrong shape or not finite.
    """
    entries, table = clean_names(state_dict), ROOTNET_TABLE if is_rootnet(template) else HYBRIK_TABLE
    variables, expected, wrong, broken = {}, set(), [], []
    for path, leaf in traverse_util.flatten_dict(template).items():
        name = torch_name(path, table)
        expected.add(name)
        if name not in entries:
            continue
        array = np.asarray(entries[name], np.float32)
        shape = _to_torch_layout(path, np.broadcast_to(np.float32(0), leaf.shape)).shape
        if array.shape != shape:
            wrong.append(f'{name} is {array.shape}, expected {shape}')
            continue
        if not np.isfinite(array).all():
            broken.append(f'{name} has {(~np.isfinite(array)).sum()} of {array.size} numbers')
        variables[path] = np.ascontiguousarray(_from_torch_layout(path, array))
    problems = {
        'missing': expected - entries.keys(),
        'unexpected': entries.keys() - expected,
        'wrong shape': wrong,
        'not finite': broken,
    }
    lines = ['\n  '.join([f'{what}:', *sorted(names)]) for what, names in problems.items() if names]
    if lines:
        raise ValueError(
            'These weights do not fit the network that the config describes; compare '
            'model.backbone.depth, model.lifting and its options.\n' + '\n'.join(lines)
        )
    return traverse_util.unflatten_dict(variables)


def to_state_dict(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns PyTorch name -> float32 array of every parameter and batch statistic."""
    leaves = traverse_util.flatten_dict(variables)
    table = ROOTNET_TABLE if is_rootnet(variables) else HYBRIK_TABLE
    return {
        torch_name(path, table): np.array(_to_torch_layout(path, np.asarray(leaf)), np.float32, order='C')
        for path, leaf in leaves.items()
    }


def backbone_prefix(names: Iterable[str]) -> str:
    """Returns what stands before the names of the backbone: 'preact.', 'backbone.' (RootNet) or ''."""
    prefixes = ('preact.', 'backbone.')
    return next((one for one in prefixes if any(name.startswith(one) for name in names)), '')


# What a backbone's own file has for other tasks, what released networks therefore begin anew, and what the
# files of HRNet's pose networks lack, which end in the highest resolution.
_OTHER_TASKS = re.compile(
    r'(fc|classifier|final_layer|incre_modules|downsamp_modules|_conv_head|_bn1|_fc)\..*'
)
_FRESH = re.compile(r'preact\.(incre_modules|downsamp_modules|final_feat_layer)\..*')
_LAST_EXCHANGE = re.compile(r'preact\.stage4\.2\.fuse_layers\.[1-3]\..*')


def _is_further_block(name: str, blocks: int) -> bool:
    """Returns whether a parameter is of an EfficientNet-Lite's block that a backbone of so many lacks."""
    match = re.match(r'preact\._blocks\.(\d+)\.', name)
    return match is not None and int(match[1]) >= blocks


def load_backbone(state_dict: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `variables` with the backbone's parameters and statistics taken from `state_dict`.

    Args:
        state_dict: torchvision's own ResNet, an EfficientNet-Lite or HRNet's own ImageNet or pose network (no
            prefix; of HRNet's the trunk alone is taken, conv1 to stage4, the rest of the backbone stays as it
            is), or a whole HybrIK network or RootNet, of which only `preact.*` or `backbone.*` is read.
    Raises:
        ValueError: as `from_state_dict`, with the names that a whole network has.
    """
    entries, kept = clean_names(state_dict), set()
    prefix = backbone_prefix(entries)
    others = re.compile(r'final_layer\..*') if prefix else _OTHER_TASKS  # a camera network's heat map
    names = {name: name.removeprefix(prefix) for name in entries if name.startswith(prefix)}
    entries = {f'preact.{own}': entries[name] for name, own in names.items() if not others.fullmatch(own)}
    template = {collection: {'backbone': tree['backbone']} for collection, tree in variables.items()}
    leaves = traverse_util.flatten_dict(template)
    blocks = len({path[2] for path in leaves if path[2].startswith('block')})
    entries = {name: value for name, value in entries.items() if not _is_further_block(name, blocks)}
    if not prefix:
        absent = [_FRESH] if any(map(_LAST_EXCHANGE.fullmatch, entries)) else [_FRESH, _LAST_EXCHANGE]
        kept = {path for path in leaves if any(pattern.fullmatch(torch_name(path)) for pattern in absent)}
    wanted = traverse_util.unflatten_dict({path: leaf for path, leaf in leaves.items() if path not in kept})
    loaded = leaves | traverse_util.flatten_dict(from_state_dict(entries, wanted))
    backbone = traverse_util.unflatten_dict(loaded)
    return {collection: tree | backbone[collection] for collection, tree in variables.items()}
