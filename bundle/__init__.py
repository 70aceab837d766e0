"""Bundles: a trained model exported as a self-contained folder, which training writes and the service reads."""
