"""Long tests as commands with a size: the small size runs with the tests, the large one before a release."""
