"""What people said about the use of their data: the ledger, its fold, and what a stamp or an act may write."""
