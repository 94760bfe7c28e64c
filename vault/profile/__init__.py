"""The values of a profile: their bytes, their seal, what is computed from events, and which of several is shown."""
