-- A role that may read everything of bonewatch and change nothing: for administrators, reports, dashboards.
--
--   psql --dbname bonewatch --username OWNER --set role=bonewatch_read --file deploy/postgresql_readonly.sql
--   psql --dbname bonewatch --username OWNER --command "\\password bonewatch_read"
--
-- Run it as the owner of bonewatch's tables (the user of BONEWATCH_DATABASE_URL), who may create roles; or let a
-- superuser make the role first. Safe to run again. Tables and views of later versions are readable by themselves,
-- because the owner makes them. The database holds patient identifiers: give the role to those who may see them.
\set ON_ERROR_STOP on
\if :{?role}
\else
    \set role bonewatch_read
\endif
BEGIN;
SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
-- A second lock on the door: whatever is granted by mistake, its transactions begin read-only.
ALTER ROLE :"role" SET default_transaction_read_only = on;
-- A forgotten query must not hold back the vacuum for days.
ALTER ROLE :"role" SET statement_timeout = '5min';
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), :'role') \gexec
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), :'role') \gexec
SELECT format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I', current_schema(), :'role') \gexec
SELECT format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO %I', current_schema(), :'role') \gexec
COMMIT;
