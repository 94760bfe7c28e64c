# Run once, by the image of PostgreSQL, before anybody can reach the new server: a role that owns the vault's database and is
# no superuser. The superuser keeps no password: it answers on the socket within this container only.
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set password `cat "${VAULT_PASSWORD_FILE:-/run/vault-access/database-password}"`
CREATE ROLE vault LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE vault OWNER vault;
ALTER ROLE CURRENT_USER PASSWORD NULL;
SQL
