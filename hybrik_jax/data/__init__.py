"""Reading datasets: the one record schema, built datasets, augmentation and the input pipeline."""
