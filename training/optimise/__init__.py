"""How weights move: losses, objective, optimiser and precision."""
