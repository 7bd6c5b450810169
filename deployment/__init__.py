"""Predictors on a cluster: roll a bundle out, watch it, compare it, and return.

The state is read from the cluster each time and stored nowhere else.
"""
