"""Labelled clips: listing, splitting, decoding, caching and augmentation."""
