"""The lines that servers log: their formats, and what stands in them."""
