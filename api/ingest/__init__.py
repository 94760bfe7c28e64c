"""The door of sources: tracking messages and choices come in."""
