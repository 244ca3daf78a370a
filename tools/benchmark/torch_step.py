"""A training step of an equivalent network in PyTorch: ResNet and Transformer lifting, losses, Adam, average.

Written for the comparison of times only: names are ours, weights are random. There is no solver: its place in
the loss is empty, as in our step with `loss.rotations=0`, the like-for-like row.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from hybrik_jax.body import skeleton
from hybrik_jax.losses import L1_FACTOR
from hybrik_jax.model.resnet import STAGES
from tools.benchmark import parts
from tools.benchmark.measure import Case, Program


def step(spec: str, config: ConfigDict) -> Case:
    """Returns PyTorch's training step of the network of a configuration, on the CPU, all cores."""
    name = f'PyTorch, no solver, {os.cpu_count()} threads'
    row = parts.row_of('step', name, config.batch_size, spec, config)
    return Case(row, lambda: Program(None, functools.partial(_start, config)), queued=False)


def _start(config: ConfigDict, _: Any) -> Callable[[], Any]:
    """Returns the call of one step; raises ModuleNotFoundError without PyTorch."""
    try:
        import torch
    except ModuleNotFoundError:
        raise ModuleNotFoundError('there is no PyTorch: pip install torch') from None
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    model = _network(torch, config)
    average = [p.detach().clone() for p in model.parameters()]
    options = config.optimizer
    adam = torch.optim.Adam(
        model.parameters(), lr=options.learning_rate, betas=(options.b1, options.b2), eps=options.eps
    )
    batch = jax.tree.map(np.asarray, parts.people(config.batch_size, config.image_size))
    mean, std = torch.tensor(config.model.image_mean), torch.tensor(config.model.image_std)
    pixels = torch.from_numpy(batch.image)
    labels = {
        name: torch.from_numpy(getattr(batch, name)) for name in ('uvd', 'uvd_weight', 'betas', 'twists')
    }
    uvd, uvd_weight = labels['uvd'][:, :24], labels['uvd_weight'][:, :24]
    decay, weights = config.average.ema_decay, config.loss

    def call() -> float:
        images = ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)
        joints, twists, _, betas = model(images)
        loss = weights.uvd * L1_FACTOR * (uvd_weight * (joints - uvd).abs()).sum() / uvd_weight.sum()
        loss = loss + weights.betas * ((betas - labels['betas']) ** 2).mean()
        loss = loss + weights.twists * ((twists - labels['twists']) ** 2).mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(model.parameters()), 1 - decay)
        return float(loss.detach())

    return call


def _network(torch: Any, config: ConfigDict) -> Any:
    """Returns the module: images (B, 3, S, S) -> joints, twists, leaf rotations (or None), betas."""
    nn, F = torch.nn, torch.nn.functional
    lifter = config.model.transformer

    def convolution(inputs: int, outputs: int, size: int, stride: int) -> Any:
        layers = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)
        return nn.Sequential(*layers)

    class Block(nn.Module):
        def __init__(self, inputs: int, planes: int, stride: int, bottleneck: bool):
            super().__init__()
            outputs = 4 * planes if bottleneck else planes
            sizes = ((planes, 3, stride), (planes, 3, 1))
            if bottleneck:
                sizes = ((planes, 1, 1), (planes, 3, stride), (outputs, 1, 1))
            ends = [inputs, *(planes for planes, _, _ in sizes)]
            self.layers = nn.ModuleList(convolution(i, *rest) for i, rest in zip(ends, sizes, strict=False))
            same = stride == 1 and inputs == outputs
            self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, stride)

        def forward(self, x: Any) -> Any:
            y = x
            for layer in self.layers[:-1]:
                y = F.relu(layer(y))
            return F.relu(self.layers[-1](y) + self.shortcut(x))

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value, self.out = (
                nn.Linear(lifter.width, lifter.width) for _ in range(4)
            )

        def forward(self, x: Any, to: Any, hidden: Any) -> Any:
            def heads(y: Any) -> Any:
                return y.unflatten(-1, (lifter.num_heads, -1)).transpose(1, 2)

            attended = F.scaled_dot_product_attention(
                heads(self.query(x)), heads(self.key(to)), heads(self.value(to)), attn_mask=hidden
            )
            return self.out(attended.transpose(1, 2).flatten(2))

    class FeedForward(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [lifter.width, *[lifter.ffn_width] * (lifter.ffn_depth - 1), lifter.width]
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
            self.norm = nn.LayerNorm(lifter.width)

        def forward(self, x: Any) -> Any:
            h = x
            for layer in self.layers:
                h = F.leaky_relu(layer(h), 0.01)
            return self.norm(F.dropout(h, lifter.dropout) + x)

    class Lifting(nn.Module):
        def __init__(self):
            super().__init__()
            self.attentions = nn.ModuleList(Attention() for _ in range(3))
            self.norms = nn.ModuleList(nn.LayerNorm(lifter.width) for _ in range(3))
            self.ends = nn.ModuleList(FeedForward() for _ in range(2))

        def forward(self, sources: Any, queries: Any, visible: Any) -> Any:
            def attend(i: int, x: Any, to: Any, mask: Any) -> Any:
                attended = F.dropout(self.attentions[i](x, to, mask), lifter.dropout)
                return F.relu(self.norms[i](attended + x))

            sources = self.ends[0](attend(0, sources, sources, visible))
            queries = attend(1, queries, queries, None)
            return sources, self.ends[1](attend(2, queries, sources, visible))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            counts, bottleneck = STAGES[config.model.backbone.depth]
            width = config.model.backbone.width
            stages, channels = [convolution(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], width
            for stage, count in enumerate(counts):
                planes = width * 2**stage
                for i in range(count):
                    stages.append(Block(channels, planes, 2 if stage and not i else 1, bottleneck))
                    channels = 4 * planes if bottleneck else planes
            self.backbone = nn.Sequential(*stages)
            side = config.image_size // 32
            self.codes = nn.Parameter(torch.randn(side * side, channels))
            self.leaves = len(skeleton.LEAF_JOINTS) if lifter.leaf_tokens else 0
            self.queries = nn.Parameter(torch.randn(48 + self.leaves, channels))
            self.project = nn.ModuleList(nn.Linear(channels, lifter.width) for _ in range(2))
            self.blocks = nn.ModuleList(Lifting() for _ in range(lifter.num_blocks))
            self.back = nn.Linear(lifter.width, channels)
            self.heads = nn.ModuleList(nn.Linear(channels, n) for n in (3, 2, 4, 10))

        def forward(self, images: Any) -> tuple:
            sources = self.backbone(images).flatten(2).transpose(1, 2) + self.codes
            queries = self.project[1](self.queries).expand(len(images), -1, -1)
            visible, count = None, sources.shape[1]
            if lifter.patch_sampling < 1:
                least = max(1, int(lifter.patch_sampling * count))
                shown = int(torch.randint(least, count + 1, ()))
                order = torch.rand(len(images), count).argsort(-1).argsort(-1)
                visible = (order < shown)[:, None, None]
            sources = self.project[0](sources)
            for block in self.blocks:
                sources, queries = block(sources, queries, visible)
            tokens = self.back(queries)
            leaves = self.heads[2](tokens[:, 47:-1]) if self.leaves else None
            return (
                self.heads[0](tokens[:, :24]),
                self.heads[1](tokens[:, 24:47]),
                leaves,
                self.heads[3](tokens[:, -1]),
            )

    return Network().train()
