"""What the latents of a prior know."""
