"""Who may see what, and why: actors and rights, the gate compiled from Casbin rules, permits, policy versions. Knows no person."""
