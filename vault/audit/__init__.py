"""What happened, in a log that cannot be edited quietly and that holds nothing about anybody once their salts are gone."""
