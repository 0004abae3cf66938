#!/bin/sh
# Creates kbsync's role, which isn't an administrator, and its database: docs/targets/postgres.md.
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username=postgres --dbname=postgres \
    --set=password="$(cat "${PASSWORD_FILE:-/run/secrets/password}")" <<'SQL'
CREATE ROLE kbsync LOGIN PASSWORD :'password';
CREATE DATABASE kb OWNER kbsync;
\connect kb
CREATE EXTENSION vector;
SQL
