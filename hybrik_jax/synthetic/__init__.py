"""Images of made-up people with full labels, drawn from the open body; see `builder`."""
