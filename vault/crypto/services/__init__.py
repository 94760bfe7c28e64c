"""The key services, one a file: whatever can seal a small secret under a key that it does not hand out."""
