"""What left, to whom, for which purpose, on which basis, in which form."""
