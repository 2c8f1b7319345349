"""Container images without Docker: their Dockerfile is read, judged, and carried out step by step."""
