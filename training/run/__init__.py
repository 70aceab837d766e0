"""One training run: the loop, its folder, its log and its signals."""
