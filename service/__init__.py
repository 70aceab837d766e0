"""The serving wing: videos in, answers out, and what each answer cost. No torch."""
