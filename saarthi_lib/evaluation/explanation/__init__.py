"""Word attributions of answers, and metrics of their quality."""
