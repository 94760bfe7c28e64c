"""Every key of the vault: where it is kept, who holds it, and which compartment it opens."""
