"""The two units that numbers leave the metre for; nothing is imported, so that everybody may import this."""

MM_PER_M = 1000.0  # figures are reported in millimetres
DEPTH_SCALE_M = 2.0  # metres for one unit of a network's depth d, and of the joints in the losses
