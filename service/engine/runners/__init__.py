"""Runners run the graphs on the device: one small protocol, and one file per runtime behind it."""
