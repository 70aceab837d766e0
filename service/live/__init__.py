"""Live streams: cuts each camera's stream into windows at key frames, classifies them, and tells of events."""
