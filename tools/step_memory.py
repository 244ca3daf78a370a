"""Prints the memory of a configuration's training step, compiled for an 80 GB CUDA card that is not there.

    pip install --no-deps jax-cuda12-plugin==0.10.2 jax-cuda12-pjrt==0.10.2  # in an environment of its own
    JAX_PLATFORMS=cpu XLA_FLAGS=--xla_gpu_enable_triton_gemm=false python -m tools.step_memory \
        --config configs/hybrik_transformer_hrnet.py --config.batch_size=56 --config.model.backbone.remat=True

The batch is split over `--cards`; compiling a large network for several takes the compiler very long. It is a
lower bound: nothing is tuned without a card, so that what convolutions want beside inputs and outputs is
missing, as is what CUDA itself takes.
"""

import sys
from collections.abc import Sequence

import jax
import numpy as np
import simplejpeg
from absl import app, flags
from jax.experimental import topologies
from ml_collections import ConfigDict

from hybrik_jax import losses, main, setup
from hybrik_jax.data import augment, pipeline, record
from hybrik_jax.step import parallel_train_step, without_mesh

CARDS = flags.DEFINE_integer('cards', 1, 'Cards over which the batch is split.')
# An H100's published limits, in XLA's GpuTargetConfigProto.
CARD = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 device_memory_size: 84929347584
}
platform_name: "CUDA" device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 12 } runtime_version { major: 12 minor: 9 }
"""


def lower(config: ConfigDict, devices: Sequence[jax.Device]) -> jax.stages.Lowered:
    """Returns the training step of a configuration, ready to be compiled for the devices; nothing is run.

    Args:
        config: of a network that main.py trains; no data of it is read.
        devices: what to compile for, such as those of a topology.
    """
    body = setup.load_body(config)
    network = setup.create_network(config, body)
    state = setup.state_shapes(config, network)
    person = record.blank() | record.whole_photo(64, 64)
    person |= {'box': np.float32([0, 0, 64, 64]), 'box_enlargement': np.float32(1)}
    person['image'] = simplejpeg.encode_jpeg(np.zeros((64, 64, 3), np.uint8))
    example = augment.make_example(person, augment.Augmentation(), crop_size=config.image_size)
    shape = len(devices), config.batch_size // len(devices)
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((*shape, *x.shape[1:]), x.dtype),
        pipeline.to_batch(pipeline.stack([example])),
    )
    step = parallel_train_step(devices, **setup.step_settings(config, network, total_steps=2, epoch_steps=1))
    needed = body if losses.need_mesh(config.loss) else without_mesh(body)
    return step.lower(state, needed, batch)


def _run(_: list[str]) -> None:
    """Prints what the configuration of the flags takes."""
    try:
        cards = topologies.get_topology_desc(
            platform='cuda', topology_name='', target_config=CARD, topology=f'1x1x{CARDS.value}'
        ).devices
    except (RuntimeError, NotImplementedError, ValueError) as error:
        sys.exit(f'JAX cannot compile for CUDA here, see --help: {str(error).splitlines()[0]}')
    found = lower(main.FLAGS.config, cards).compile().memory_analysis()
    new = found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    figures = {'arguments': found.argument_size_in_bytes, 'beside them': new}
    figures['together'] = sum(figures.values())
    print(', '.join(f'{name} {size >> 20} MiB' for name, size in figures.items()))


if __name__ == '__main__':
    app.run(_run, flags_parser=main.parse)
