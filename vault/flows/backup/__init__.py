"""Backups as three archives, each with a life of its own, and the way back."""
