"""What `undiffuse analyse` and its parts are told."""
