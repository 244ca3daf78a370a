"""Times an EfficientNet-Lite's depthwise convolutions, forward and backward: XLA's beside shifted products.

    python -m tools.measure_depthwise [--name efficientnet_lite0] [--image-size 128] [--batch 32] [--turns 5]

A line for each shape that layers have, the ways in turns: milliseconds, the least of the turns. 'convolution'
is XLA's own, 'products' are shifted products that JAX differentiates, 'written out' is what
`hybrik_jax.model.depthwise` does on a CPU.
"""

import argparse
import functools
import time
from collections import Counter
from collections.abc import Callable, Sequence

import jax
import tabulate
import tqdm

from hybrik_jax import compiler
from hybrik_jax.model import depthwise, efficientnet


def shapes_of(name: str, image_size: int) -> Counter[tuple[int, int, int, int]]:
    """Returns (side of the map, channels, rows of the kernel, stride) -> how many layers have that."""
    found, side, channels = Counter(), image_size // 2, efficientnet.STEM
    for stage in efficientnet.stages_of(name):
        for i in range(stage.blocks):
            stride = stage.stride if i == 0 else 1
            found[side, stage.expansion * channels, stage.size, stride] += 1
            side, channels = side // stride, stage.planes
    return found


def ways(stride: int) -> dict[str, Callable]:
    """Returns what is compared, each a function of a map and a kernel."""
    window = functools.partial(depthwise.window_of, stride=stride)
    return {
        'convolution': lambda x, kernel: depthwise.convolved(x, kernel, window(x, kernel)),
        'products': lambda x, kernel: depthwise.shifted(x, kernel, window(x, kernel)),
        'written out': functools.partial(depthwise.depthwise, stride=stride),
    }


def compiled(way: Callable, x: jax.Array, kernel: jax.Array) -> Callable:
    """Returns a function of nothing that computes the way and both gradients, and waits for them."""

    def both(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, ...]:
        y, backward = jax.vjp(way, x, kernel)
        return y, *backward(y)

    program = jax.jit(both).lower(x, kernel).compile()
    return lambda: jax.block_until_ready(program(x, kernel))


def measure(name: str, image_size: int, batch: int, turns: int) -> list[list]:
    """Returns a row for each shape, the last one of all layers together."""
    rows, total = [], Counter()
    for (side, channels, size, stride), count in tqdm.tqdm(shapes_of(name, image_size).items()):
        x = jax.random.normal(jax.random.key(0), (batch, side, side, channels))
        kernel = jax.random.normal(jax.random.key(1), (size, size, channels))
        programs = {way: compiled(function, x, kernel) for way, function in ways(stride).items()}
        least = dict.fromkeys(programs, float('inf'))
        for _ in range(turns + 1):  # the first warms up
            for way, program in programs.items():
                started = time.perf_counter()
                program()
                least[way] = min(least[way], 1000 * (time.perf_counter() - started))
        total.update({way: count * value for way, value in least.items()})
        rows.append([f'{side} x {side} x {channels}', size, stride, count, *least.values()])
    return [*rows, ['all', '', '', sum(row[3] for row in rows), *total.values()]]


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table of what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--name', choices=efficientnet.SCALES, default='efficientnet_lite0')
    parser.add_argument(
        '--image-size', type=int, default=128, help='side of the images, a multiple of 32 (128)'
    )
    parser.add_argument('--batch', type=int, default=32, help='images (32)')
    parser.add_argument('--turns', type=int, default=5, help='calls of each (5)')
    options = parser.parse_args(argv)
    compiler.set_up()
    headers = ['map', 'kernel', 'stride', 'layers', *ways(1)]
    rows = measure(options.name, options.image_size, options.batch, options.turns)
    print(tabulate.tabulate(rows, headers, tablefmt='github', floatfmt='.1f'))


if __name__ == '__main__':
    main()
