"""The networks: backbone, the two lifting networks, and the step from their outputs to a posed body."""
