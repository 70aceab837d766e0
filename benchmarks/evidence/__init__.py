"""What each part of the method earns: the studies behind docs/evidence.md."""
