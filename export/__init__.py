"""From a checkpoint to a bundle: tensors-in, tensors-out graphs, verified against the torch model before anything is written."""
