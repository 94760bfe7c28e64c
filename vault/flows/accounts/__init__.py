"""Companies and households for one destination: their traits, their members, and the accounts of a person."""
