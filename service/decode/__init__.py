"""From an untrusted upload to frames: a bounded spool, and a pool of sandboxed processes that decode it."""
