"""HybrIK-Transformer in JAX: 3D human pose and shape from one photo.

`predict.Predictor` is the front door. `body/` holds the body model and the analytical inverse kinematics,
`model/` the networks, `inference.py` the forward pass, `data/` the records; `train.py` and `evaluate.py` are
the loops.
"""

__version__ = '0.2.0.dev0'
