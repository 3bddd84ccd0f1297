"""Data that ships with the package: the closed-form photo prior, a test photograph."""
