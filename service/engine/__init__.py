"""The adaptive engine: rows of different videos at different steps share a batch and leave when they are sure."""
