"""The state row: what one person chose, and which bytes of theirs are the newest, under one MAC."""
