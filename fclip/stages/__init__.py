"""One module a command: its Config and run(config) -> StageReport."""
