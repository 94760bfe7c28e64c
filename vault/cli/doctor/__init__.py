"""`doctor`: looks at everything that a first user or an operator can get wrong. Changes nothing, starts nothing unasked."""
