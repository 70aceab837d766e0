"""The door between the two wings: a trained model as a folder that needs nothing else to be served."""
