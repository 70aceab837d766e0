"""Requests and answers of the HTTP API as plain types. No FastAPI."""
