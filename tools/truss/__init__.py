"""What the real Truss server answers to a list of requests, recorded for tests that hold ours against it."""
