"""Putting predictors on a cluster: render, compare, apply, wait, try, roll out and back.

What is running is read from the cluster each time; nothing is kept beside it.
"""
