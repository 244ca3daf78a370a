"""Compiles the training step for devices that are not there, and tells what it would take of them.

`tools.plan` is the program. What it needs beside this is a compiler: the CUDA plugin of JAX, or libtpu.
"""

import dataclasses
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import simplejpeg
from jax.experimental import topologies
from ml_collections import ConfigDict

from hybrik_jax import config as configuration
from hybrik_jax import setup
from hybrik_jax.data import pipeline, record
from hybrik_jax.step import parallel_train_step

# Published limits of cards: compute capability, multiprocessors, lanes of each, GHz, threads and bytes of
# shared memory of each (a block may have all but 1024), bytes/s, bytes of level 2 cache, MiB by the driver.
CARDS = {
    'h100': ('NVIDIA H100 80GB HBM3', 90, 132, 128, 1.98, 2048, 233472, 3352320000000, 52428800, 81559),
    'a100': ('NVIDIA A100-SXM4-80GB', 80, 108, 64, 1.41, 2048, 167936, 2039000000000, 41943040, 81920),
    'a100-40gb': ('NVIDIA A100-SXM4-40GB', 80, 108, 64, 1.41, 2048, 167936, 1555000000000, 41943040, 40960),
    '4090': ('NVIDIA GeForce RTX 4090', 89, 128, 128, 2.52, 1536, 102400, 1008000000000, 75497472, 24564),
    'l4': ('NVIDIA L4', 89, 58, 128, 2.04, 1536, 102400, 300000000000, 50331648, 23034),
    't4': ('NVIDIA T4', 75, 40, 64, 1.59, 1024, 65536, 320000000000, 4194304, 15360),
}
CARD_TEXT = """
gpu_device_info {{
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  core_count: {cores} fpus_per_core: {lanes} clock_rate_ghz: {clock}
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: {threads}
  shared_memory_per_block: 49152 shared_memory_per_block_optin: {block} shared_memory_per_core: {shared}
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth} l2_cache_size: {cache} device_memory_size: {memory}
}}
platform_name: "CUDA" device_description_str: "{name}"
dnn_version_info {{ major: 9 minor: 12 }} runtime_version {{ major: 12 minor: 9 }}
"""  # XLA's GpuTargetConfigProto
TPUS = {'v4': 15.5, 'v5e': 15.75, 'v5p': 95.74, 'v6e': 31.25}  # GiB that a program may use, of each device
SHARE = 0.92  # of a card's memory that JAX can be given; by itself it takes three quarters
# Triton's kernels are chosen on a card only; least effort spares a TPU's compiler nine tenths of its time.
FLAGS = {
    'cuda': {'XLA_FLAGS': '--xla_gpu_enable_triton_gemm=false'},
    'tpu': {
        'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',  # no device is opened: others may plan at the same time
        'TPU_SKIP_MDS_QUERY': '1',
        'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
        'TPU_WORKER_HOSTNAMES': 'localhost',
        'TPU_WORKER_ID': '0',
    },
}
OPTIONS = {'cuda': None, 'tpu': {'exec_time_optimization_effort': -1.0}}
MIB = 2**20
NEAR = 0.9  # of the limit: the search is content


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices to compile for.

    text: as the user wrote it. kind: 'cuda' or 'tpu'. name: of the card or of the TPU. count: cards; 0 of a
        TPU, whose text says it. limit: bytes of one device that a program may use.
    """

    text: str
    kind: str
    name: str
    count: int
    limit: int

    @classmethod
    def parse(cls, text: str) -> 'Target':
        """Returns the target of a text such as h100, 4xa100 or v5e:2x2; raises ValueError for another."""
        if (card := re.fullmatch(r'(?:([1-9]\d{0,3})x)?([\w-]+)', text.lower())) and card[2] in CARDS:
            limit = int(SHARE * CARDS[card[2]][-1]) * MIB
            return cls(text, 'cuda', card[2], int(card[1] or 1), limit)
        if (slice_ := re.fullmatch(r'(v\d\w?):\d+(x\d+){1,2}', text.lower())) and slice_[1] in TPUS:
            return cls(text.lower(), 'tpu', slice_[1], 0, int(TPUS[slice_[1]] * 2**30))
        known = (
            f'a card ({", ".join(CARDS)}), several (4xa100) or a TPU (v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x4)'
        )
        raise ValueError(f'--target={text} is unknown: give {known}.')

    def devices(self) -> Sequence[jax.Device]:
        """Returns the devices; raises ValueError where there is no compiler for them, or no such slice."""
        try:
            if self.kind == 'tpu':
                return topologies.get_topology_desc(platform='tpu', topology_name=self.text).devices
            card, topology = card_text(self.name), f'1x1x{self.count}'
            return topologies.get_topology_desc(
                platform='cuda', topology_name='', target_config=card, topology=topology
            ).devices
        except (RuntimeError, NotImplementedError, ValueError) as error:
            raise ValueError(f'JAX cannot compile for {self.text}: {str(error).splitlines()[0]}') from error


def card_text(name: str) -> str:
    """Returns what XLA wants to know about a card of the table."""
    title, capability, cores, lanes, clock, threads, shared, bandwidth, cache, memory = CARDS[name]
    return CARD_TEXT.format(
        name=title,
        major=capability // 10,
        minor=capability % 10,
        cores=cores,
        lanes=lanes,
        clock=clock,
        threads=threads,
        shared=shared,
        block=shared - 1024 * (capability > 75),
        bandwidth=bandwidth,
        cache=cache,
        memory=memory * MIB,
    )


# ---- the compilers


def wheels(kind: str) -> list[str]:
    """Returns the wheels that hold the compiler for this JAX, as pip wants them."""
    asked = [re.split('[ ;]', line)[0] for line in importlib.metadata.requires('jax') or ()]
    if kind == 'tpu':
        return [line for line in asked if line.startswith('libtpu')]
    plugins = sorted({found[0] for line in asked if (found := re.match(r'jax-cuda\d+-plugin', line))})
    version = importlib.metadata.version('jax')
    return [f'{name}=={version}' for name in (plugins[0], plugins[0].replace('plugin', 'pjrt'))]


def compiler(kind: str, cache: pathlib.Path) -> pathlib.Path:
    """Returns a folder that gives Python the compiler of a kind of devices; installs it at the first time.

    The folder holds nothing but its wheels: all else is the running environment's.

    Raises:
        ValueError: pip does not find them, or cannot write.
    """
    wanted = wheels(kind)
    python = f'py{sys.version_info.major}{sys.version_info.minor}'
    folder = cache / '-'.join([kind, importlib.metadata.version('jax'), python])
    if folder.is_dir():
        return folder
    unfinished = folder.with_name(f'.{folder.name}.{os.getpid()}')
    print(f'Installing {" and ".join(wanted)} into {folder}, once', file=sys.stderr, flush=True)
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', 'install', '--no-deps', '--target']
    try:
        unfinished.mkdir(parents=True)
        status = subprocess.run([*pip, str(unfinished), *wanted], stdout=sys.stderr).returncode
        if not status:
            unfinished.replace(folder)
    except OSError as error:
        raise ValueError(f'{cache} cannot be written, give --cache another folder: {error}') from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    if status:
        raise ValueError(
            f'pip could not install {" ".join(wanted)}, see above. They exist for Linux only. Without a '
            f'network: pip install --no-deps --target {folder} FILES.'
        )
    return folder


def environment(kind: str, folder: pathlib.Path, before: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a process that compiles with the wheels in a folder."""
    root = pathlib.Path(__file__).parents[1]
    path = os.pathsep.join(filter(None, [str(folder), str(root), before.get('PYTHONPATH')]))
    kept = {name: value for name, value in before.items() if name != 'XLA_FLAGS'}
    return kept | FLAGS[kind] | {'PYTHONPATH': path, 'JAX_PLATFORMS': 'cpu', 'TF_CPP_MIN_LOG_LEVEL': '3'}


# ---- the step


def person_of(photo: np.ndarray) -> dict[str, Any]:
    """Returns the record of somebody who fills a square photo (S, S, 3) uint8, without labels."""
    size = len(photo)
    known = {'box': np.float32([0, 0, size, size]), 'box_enlargement': np.float32(1)}
    image = {'image': simplejpeg.encode_jpeg(photo)}
    return record.blank() | record.whole_photo(size, size) | known | image


def lower(config: ConfigDict, devices: Sequence[jax.Device]) -> jax.stages.Lowered:
    """Returns the training step of a configuration, ready to be compiled for the devices; nothing is run.

    Args:
        config: of a network that main.py trains; no data of it is read.
        devices: what to compile for, such as those of a topology.
    """
    config = configuration.resolved(config)
    body = setup.load_body(config)
    network = setup.create_network(config, body)
    state = setup.state_shapes(config, network)
    person = person_of(np.zeros((64, 64, 3), np.uint8))
    example = pipeline.evaluation_example(person, crop_size=config.image_size)
    shape = len(devices), config.batch_size // len(devices)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((*shape, *x.shape[1:]), x.dtype),
        pipeline.to_batch(pipeline.stack([example])),
    )
    step = parallel_train_step(devices, **setup.step_settings(config, network, total_steps=2, epoch_steps=1))
    return step.lower(state, setup.body_of_step(config, body), batch)


def changed(config: ConfigDict, changes: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy of a configuration with some keys, named like 'model.backbone.dtype', changed."""
    copy = ConfigDict(config.to_dict())
    copy.update_from_flattened_dict(dict(changes))
    return copy


def flops_per_image(config: ConfigDict, devices: int) -> float:
    """Returns a training step's operations per image, of which a multiplication with an addition is two.

    It is XLA's count on the step as lowered for a CPU, of at most 64 images: what is recomputed counts each
    time, of a choice the dearest; transcendental functions and the solver's SVD do not count, nor does what
    the target's own compiler adds or leaves out.
    """
    images = min(64, config.batch_size // devices)
    lowered = lower(changed(config, {'batch_size': images}), jax.devices('cpu')[:1])
    return lowered.cost_analysis()['flops'] / images


def parts(lowered: jax.stages.Lowered, devices: int) -> dict[str, int]:
    """Returns the bytes of a step's arguments on each device, by what they are."""
    (state, body, batch), _ = lowered.args_info

    def size(tree: Any) -> int:
        return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))

    return {
        'parameters and statistics': size(state.variables),
        'optimizer': size(state.optimizer),
        'averages': size((state.ema, state.tail)),
        'batch': size(batch) // devices,
        'body': size(body),
    }


def memory(lowered: jax.stages.Lowered, compiled: jax.stages.Compiled, devices: int) -> dict[str, int]:
    """Returns the bytes of a compiled step on each device, by what they are; their sum is what it takes."""
    found, bytes_of = compiled.memory_analysis(), parts(lowered, devices)
    new = found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    bytes_of['padding'] = found.argument_size_in_bytes - sum(bytes_of.values())
    return bytes_of | {'activations and workspace': new, 'program': found.generated_code_size_in_bytes}


# A result of a collective operation in the text of a compiled program: its type, or a tuple of types.
_COLLECTIVE = re.compile(
    r'= (\(.*?\)|\S+) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\('
)
_ARRAY = re.compile(r'\b(pred|[suf]\d+|bf16|c64|c128)\[([\d,]*)\]')


def collectives(text: str) -> dict[str, int]:
    """Returns the bytes that each device hands to collective operations in a step, by operation.

    Args:
        text: a compiled program.
    """
    found: dict[str, int] = {}
    for line in text.splitlines():
        if match := _COLLECTIVE.search(line):
            sizes = [
                (1 if kind == 'pred' else int(re.sub(r'\D', '', kind)) // 8)
                * int(np.prod([int(side) for side in filter(None, shape.split(','))]))
                for kind, shape in _ARRAY.findall(match[1])
            ]
            found[match[2]] = found.get(match[2], 0) + sum(sizes)
    return found


def measure(config: ConfigDict, target: Target, devices: Sequence[jax.Device]) -> dict[str, Any]:
    """Returns what the step of a configuration takes of each device, as a row of JSON values.

    Where the compiler itself finds that there is not enough, 'memory' is missing and 'total' is what it says.
    """
    count = len(devices)
    row = {'batch_size': config.batch_size, 'devices': count, 'limit': target.limit}
    start = time.monotonic()
    lowered = lower(config, devices)
    row['lower_s'] = round(time.monotonic() - start, 1)
    start = time.monotonic()
    try:
        compiled = lowered.compile(compiler_options=OPTIONS[target.kind])
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        used = re.search(r'Used ([\d.]+)([KMG]) of', str(error))
        total = int(float(used[1]) * 2 ** {'K': 10, 'M': 20, 'G': 30}[used[2]]) if used else None
        return row | {'compile_s': round(time.monotonic() - start, 1), 'total': total, 'fits': False}
    row['compile_s'] = round(time.monotonic() - start, 1)
    row['memory'] = memory(lowered, compiled, count)
    row['total'] = sum(row['memory'].values())
    row['collectives'] = collectives(compiled.as_text()) if count > 1 else {}
    return row | {'fits': row['total'] <= target.limit}


def largest_batch(
    known: Iterable[dict[str, Any]], measured: Callable[[int], dict[str, Any]], devices: int, limit: int
) -> dict[str, Any] | None:
    """Returns the row of the largest batch found to fit, proven by a compilation of its own; None: none does.

    Memory grows nearly as a line in the batch. Two compilations give the line; a third proves the batch at
    which it meets the limit. Should that not fit, or leave a tenth, two more at the most aim anew.

    Args:
        known: rows of batches that have been measured, one at least.
        measured: batch size -> its row.
        devices: over which a batch is split; batches are multiples of eight images for each.
        limit: bytes of each device.
    """
    unit = 8 * devices
    rows = {row['batch_size']: row for row in known}
    if len(rows) == 1:
        ((size, row),) = rows.items()
        other = 2 * size if row['fits'] else max(unit, size // 4 // unit * unit)
        rows[other] = measured(other)
    for _ in range(3):
        fitting = max((size for size, row in rows.items() if row['fits']), default=0)
        bound = min((size for size, row in rows.items() if not row['fits']), default=None)
        totals = {size: row['total'] for size, row in rows.items() if row['total']}
        near, far, *_ = *sorted(totals, key=lambda size: abs(totals[size] - limit)), None, None
        if far is None:  # the compiler did not say how much it wants
            size = (fitting + (bound or 0)) // 2 // unit * unit
        else:
            slope = (totals[far] - totals[near]) / (far - near) or 1
            size = int(near + (limit - totals[near]) / slope) // unit * unit
        size = max(size, fitting + unit) if bound is None else min(size, bound - unit)
        if size <= fitting:
            break
        rows[size] = measured(size)
        if rows[size]['fits'] and rows[size]['total'] > NEAR * limit:
            break
    return rows.get(max((size for size, row in rows.items() if row['fits']), default=0))
