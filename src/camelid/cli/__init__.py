"""The command `camelid`: one file per verb, each reads flags into settings, calls one function below, and prints.

Only this room prints. Data goes to standard output, everything else to standard error.
"""
