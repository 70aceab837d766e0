"""Reads untrusted video files and returns the frames that a model sees. Training and the service both use it."""
