"""What Alembic runs: the migrations, on the connection and in the transaction that `vault.storage.migrate` gives."""

from alembic import context

from vault.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, include_schemas=True)
context.run_migrations()
