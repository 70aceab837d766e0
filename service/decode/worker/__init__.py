"""The decode worker: an unprivileged process that decodes one untrusted video at a time."""
