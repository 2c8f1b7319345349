"""The tests, as a package so that `tests.fakes` can be imported from every folder."""
