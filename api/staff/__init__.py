"""The door of staff: requests of people, audit, drops and keys."""
