"""Measurements and checks on real input, by command. Nothing here is run by the tests, nor asserted by a duration."""
