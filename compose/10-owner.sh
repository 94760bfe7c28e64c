# Run once, by the image of PostgreSQL, before anybody can reach the new server: a role that owns the vault's database and is
# no superuser, and the logins of its processes. The superuser keeps no password: it answers on the socket within this
# container only. The image has read the owner's password for us: the file is not readable for who runs this.
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv password POSTGRES_PASSWORD
CREATE ROLE vault LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE vault OWNER vault;
\connect vault
\i /run/vault-roles/logins.sql
ALTER ROLE CURRENT_USER PASSWORD NULL;
SQL
