"""State, the loop, noise, grids, images."""
