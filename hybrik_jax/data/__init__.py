"""Datasets: one record schema, builders, augmentation and the input pipeline."""
