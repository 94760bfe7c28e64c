"""The way of a request: taken in, carried out step by step, answered, proven."""
