"""The recipe of guard, the toy safety model of the tests."""
