"""Many runs of one configuration with some of its fields varied, side by side."""
