"""Its place makes pytest put the repository's root on the path, so that every folder can import `tests.fakes`."""
