"""From a numbered change to a line: state, contract and gate, open, transform, disclosure, line."""
