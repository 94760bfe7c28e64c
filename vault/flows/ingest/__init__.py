"""From bytes to one committed statement: decode, read, resolve, decide, seal, write."""
