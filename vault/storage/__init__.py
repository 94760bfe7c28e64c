"""The database: its schema, its migrations, the server that comes in a wheel, engines, transactions and leases."""
