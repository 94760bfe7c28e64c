"""Profile Vault: one encrypted, consented profile per person, with proof of everything that happened to it."""
