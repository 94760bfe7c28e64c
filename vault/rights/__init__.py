"""What people ask of the vault by right, and what they get: requests and their clock, archives, case files, certificates."""
