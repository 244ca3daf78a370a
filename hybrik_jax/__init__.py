"""HybrIK-Transformer in JAX: 3D human pose and shape from one photo.

`body/` holds the body model and the analytical inverse kinematics, `model/` the networks, `data/` the
datasets; `train.py` and `evaluate.py` are the loops over them.
"""

__version__ = '0.2.0.dev0'
