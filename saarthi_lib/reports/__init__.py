"""All HTML pages: run report, explanations, comparisons, data check and sweeps."""
