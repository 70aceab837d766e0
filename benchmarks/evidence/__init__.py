"""The studies of docs/evidence.md: what each part of the method contributes."""
