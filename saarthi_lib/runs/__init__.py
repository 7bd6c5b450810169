"""Runs: `train`, reuse of finished steps, and commands on finished runs."""
