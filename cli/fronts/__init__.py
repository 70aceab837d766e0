"""Several processes that serve one port: each has HTTP, uploads and decoders, and all share one engine."""
