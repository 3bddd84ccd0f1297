"""Priors and degradations between this package and others, which are needed only where they are called."""
