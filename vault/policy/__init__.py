"""Who may see what, and why: actors and their rights, the gate compiled from Casbin rules, permits, and policy versions. Knows no person."""
