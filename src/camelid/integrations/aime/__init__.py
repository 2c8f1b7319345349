"""A worker for AIME's API server: it asks for jobs, answers them with a model of ours, and reports as it goes.

Only the protocol is used, none of AIME's packages. Source: the wire of AIME API server 0.9.6 as it was observed.
"""
