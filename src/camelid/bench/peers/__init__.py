"""The same work, done by other engines: one adapter a file, each run in a process of its own.

`adapter.py` and the `with_*.py` beside it import nothing of Camelid, so that any interpreter can run them: peers often
live in an environment of their own. `compare.py` starts them, takes turns, and reports losses as plainly as wins.
"""
