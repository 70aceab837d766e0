"""The service: receives videos and returns answers with their cost. It does not use torch."""
