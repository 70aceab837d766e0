"""Training: turns labelled videos into calibrated checkpoints."""
