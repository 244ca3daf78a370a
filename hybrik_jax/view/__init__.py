"""Pictures: rasteriser, drawings and reports."""
