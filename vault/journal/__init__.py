"""What must never be forgotten by a restore: narrowings, kept outside the database, and the head of the audit log."""
