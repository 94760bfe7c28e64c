"""The journeys: verbs over the rooms. Each reads top to bottom; what happens next follows from committed state."""
