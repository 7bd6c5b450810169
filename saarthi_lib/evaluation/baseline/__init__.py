"""The baseline of a run: simple models in scikit-learn."""
