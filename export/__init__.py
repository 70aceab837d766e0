"""From a checkpoint to a bundle: graphs that are verified against the torch model before anything is written."""
