"""Fuzz campaigns as commands: `python -m tools.fuzz TARGET --runs N --seed S`.

Each run is made from the seed and its number alone, so that a failure is repeated with `--first NUMBER --runs 1`.
"""
