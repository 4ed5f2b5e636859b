"""The composition root: configuration, wiring, daemon, commands."""
