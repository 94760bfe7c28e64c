"""The operator's door: the command `profile-vault`, one file a command. Loads only what the chosen command needs."""
