"""Block transform coding (placeholder docstring)."""
