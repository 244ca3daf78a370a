"""Making records: readers of annotation files, checks, regions, builds. The core never imports this room."""
