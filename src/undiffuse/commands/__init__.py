"""The commands of the command line, and what they share. Nothing heavy is imported before one of them runs."""
