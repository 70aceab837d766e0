"""Turns an untrusted upload into frames: a bounded spool, and a pool of sandboxed processes that decode it."""
