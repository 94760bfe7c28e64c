"""What may exist at all, read from the policies folder and checked against itself. Knows no person, no key and no database."""
