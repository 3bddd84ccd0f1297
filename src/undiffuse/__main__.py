"""`python -m undiffuse`."""

from undiffuse.cli import main

main()
