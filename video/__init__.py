"""The well: from untrusted bytes to the frames that a model sees. Training and the service both draw from it."""
