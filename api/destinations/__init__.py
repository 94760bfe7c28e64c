"""The door of destinations: feeds, lookups, and the way back."""
