"""One reader of annotation files for each dataset."""
