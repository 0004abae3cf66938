#!/bin/sh
# The role and the database of kbsync, which is not to be an administrator: docs/targets/postgres.md.
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username=postgres --dbname=postgres \
    --set=password="$(cat "${PASSWORD_FILE:-/run/secrets/password}")" <<'SQL'
CREATE ROLE kbsync LOGIN PASSWORD :'password';
CREATE DATABASE kb OWNER kbsync;
\connect kb
CREATE EXTENSION vector;
SQL
