"""Optimisation: losses, objective, initial weights, optimiser and precision."""
