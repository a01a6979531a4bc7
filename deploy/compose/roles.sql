-- A role for each service, each with the least that its duty needs. The service "roles" of docker-compose.yml runs this
-- with psql, as the superuser, before every migration. So it also works on a volume that an older compose file filled,
-- and a changed password takes effect. It can be repeated at will.
--
-- Passwords come from the environment: OWNER_PASSWORD, WORKER_PASSWORD, MARKER_PASSWORD and READER_PASSWORD. A role
-- without a password can't log in.

\set ON_ERROR_STOP on
\set owner_password ''
\set worker_password ''
\set marker_password ''
\set reader_password ''
\getenv owner_password OWNER_PASSWORD
\getenv worker_password WORKER_PASSWORD
\getenv marker_password MARKER_PASSWORD
\getenv reader_password READER_PASSWORD

-- No setting may write a password to the server's log, not even when a statement fails.
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';

BEGIN;

CREATE TEMPORARY TABLE service_role (name text, password text) ON COMMIT DROP;
INSERT INTO service_role VALUES
  ('usage_owner', nullif(:'owner_password', '')),
  ('usage_worker', nullif(:'worker_password', '')),
  ('usage_marker', nullif(:'marker_password', '')),
  ('usage_reader', nullif(:'reader_password', ''));

SELECT format('CREATE ROLE %I', name)
FROM service_role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

SELECT format(
  'ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD %L', name, password)
FROM service_role
\gexec

-- The owner creates the tables and pg-boss's schema, and grants the rest. The others may only connect.
SELECT format('ALTER DATABASE %I OWNER TO usage_owner', current_database()) \gexec
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database()) \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO usage_worker, usage_marker, usage_reader', current_database()) \gexec
ALTER SCHEMA public OWNER TO usage_owner;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- The compose file of 0.1.0 let the superuser create everything in this database. The owner takes that over.
SELECT format('ALTER SCHEMA %I OWNER TO usage_owner', nspname)
FROM pg_namespace
WHERE nspname = 'pgboss' AND nspowner = current_user::regrole
\gexec

SELECT format('ALTER TABLE %s OWNER TO usage_owner', oid::regclass)
FROM pg_class
WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'pgboss'))
  AND relowner = current_user::regrole
  AND relkind IN ('r', 'p', 'v', 'm', 'S')
  -- A sequence of a column follows its table, and what an extension brings stays with it.
  AND NOT EXISTS (
    SELECT FROM pg_depend
    WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype IN ('a', 'i', 'e')
      AND (relkind = 'S' OR deptype = 'e'))
\gexec

SELECT format('ALTER ROUTINE %s OWNER TO usage_owner', oid::regprocedure)
FROM pg_proc
WHERE pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'pgboss'))
  AND proowner = current_user::regrole
  AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
\gexec

SELECT format('ALTER TYPE %s OWNER TO usage_owner', oid::regtype)
FROM pg_type
WHERE typnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('public', 'pgboss'))
  AND typowner = current_user::regrole
  AND typtype IN ('e', 'd')
  AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = 'pg_type'::regclass AND objid = pg_type.oid AND deptype = 'e')
\gexec

COMMIT;
