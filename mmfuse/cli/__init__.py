"""The commands: thin, and quick to answer because nothing heavy is imported before it is needed."""
