"""Recipients: the form in which they get a value, the name under which they know a person, and the way to reach them."""
