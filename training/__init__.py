"""The torch wing learns: from labelled videos to calibrated checkpoints."""
