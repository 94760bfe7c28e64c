"""Audiences: is a person in, judged on what the purpose of the audience may see."""
