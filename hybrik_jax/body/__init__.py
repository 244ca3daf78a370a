"""Skeleton, rotations, camera, skinning and inverse kinematics of one person; callers write `jax.vmap`.

Metres, camera frame x right, y down, z forward; (3, 3) rotations acting on column vectors; quaternions are
(w, x, y, z).
"""
