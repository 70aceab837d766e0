"""What touches the device: one small protocol, and one file per runtime behind it."""
