"""Sources: the apps that write. Their names, classes, write keys (as hashes only) and the counters of what was dropped."""
