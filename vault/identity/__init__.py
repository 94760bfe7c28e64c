"""Who is meant: identifiers in one normal form, and how profiles are found, joined and kept apart."""
