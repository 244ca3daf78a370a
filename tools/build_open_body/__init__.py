"""Rebuilds open_body.npz, garments.npz and poses.npz from CC0 assets; see README.md."""
