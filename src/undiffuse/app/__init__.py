"""What the command line and the page call: one `run(config) -> Iterator[Event]` for each verb."""
