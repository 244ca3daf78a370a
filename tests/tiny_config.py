"""A network and a run small enough for tests; a configuration file like those in configs/."""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the default, tiny: 12 steps of 8 crops of 64 x 64 pixels, dropout and patch sampling as in the
    paper.
    """
    config = default.get_config()
    config.workdir = 'runs/tiny'
    config.image_size = 64
    config.batch_size = 8
    config.num_epochs = 3
    config.steps_per_epoch = 4
    config.model.backbone.depth = 18
    config.model.backbone.width = 16
    config.model.transformer.num_blocks = 1
    config.model.transformer.num_heads = 2
    config.model.transformer.width = 64
    config.model.transformer.ffn_width = 64
    config.model.deconv.width = 16
    config.model.deconv.depth_bins = 8
    config.data.synthetic.train = 24
    config.data.synthetic.validation = 4
    config.data.synthetic.test = 4
    config.data.read_threads = 1
    config.data.prefetch = 8
    config.loss.smpl_joints = 0.1
    config.optimizer.warmup_steps = 4
    config.average.tail_epochs = 1.0
    config.log_every = 1
    config.validate_every = 100
    config.checkpoint_every = 3
    config.keep_checkpoints = 2
    config.tensorboard = False
    return config
