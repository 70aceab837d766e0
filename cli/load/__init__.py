"""The load generator of `adafocus bench`: what to send, a client that costs little, and a report of what came back."""
