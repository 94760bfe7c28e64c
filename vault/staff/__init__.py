"""Staff: who may log in, in which role, and the tokens their programs carry (as hashes only)."""
