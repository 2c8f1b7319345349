"""Ollama's own dialect: `/api/…`, as its clients speak it."""
