"""Predictors on a cluster: render, compare, apply, wait, test, roll out and back.

The state is read from the cluster each time and stored nowhere else.
"""
