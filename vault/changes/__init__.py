"""What changed, in an order that no reader can miss: numbers given after commit, cursors, and the database's incarnation."""
