"""Training priors and dehazing networks."""
