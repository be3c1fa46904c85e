-- The statements that concern the server, or a schema as a whole.

-- name: settings, fresh
-- Of every connection; or of one transaction, where a pooler shares connections out and another process serves us than the one we were told of.
-- Plans look rows up one by one whatever the statistics say: all our statements know their keys, and a plan made while a table was empty would
-- read all of it for as long as the connection lives.
select pooled, set_config('statement_timeout', $1::text, pooled), set_config('lock_timeout', $2::text, pooled),
    set_config('idle_in_transaction_session_timeout', $3::text, pooled),
    set_config('enable_seqscan', 'off', pooled), set_config('enable_hashjoin', 'off', pooled),
    set_config('enable_mergejoin', 'off', pooled), set_config('enable_bitmapscan', 'off', pooled),
    set_config('enable_material', 'off', pooled), set_config('jit', 'off', pooled), set_config('client_min_messages', 'warning', pooled),
    set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), pooled)
from (select pg_backend_pid() <> $4::int8 as pooled offset 0) connection

-- name: begin_snapshot
-- One moment, to be looked at.
begin isolation level repeatable read read only

-- name: find_schema
-- Whether a schema is there, whether it is a store, whether it has any table.
select n.oid is not null, to_regclass(format('%I.meta', $1::text)) is not null,
    exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p'))
from (select 1) always left join pg_catalog.pg_namespace n on n.nspname = $1::text

-- name: schema_kind
-- What a schema holds, and in which version.
select max(value) filter (where name = 'kind'), max(value) filter (where name = 'schema') from {schema}.meta

-- name: create_schema
-- A new store.
create schema {schema}

-- name: drop_schema
-- A store that is not wanted any more.
drop schema {schema} cascade

-- name: set_version
-- Which migrations were applied.
insert into {schema}.meta (name, value) values ('schema', $1::text) on conflict (name) do update set value = excluded.value

-- name: lock_migration
-- Instances that start at once migrate one after the other.
select set_config('lock_timeout', '60s', true), set_config('statement_timeout', '0', true), pg_advisory_xact_lock($1::int8)

-- name: notify
-- Tell other processes that there is something new. Not durable, because nothing of it has to be.
select set_config('synchronous_commit', 'off', true), pg_notify($1::text, $2::text)

-- name: examine
-- What a server has to be set to. Our own connections never commit without waiting; what is reported is what everybody else's do.
select current_setting('server_version_num')::int8, current_setting('server_version'), current_setting('fsync'),
    current_setting('full_page_writes'), (select reset_val from pg_catalog.pg_settings where name = 'synchronous_commit'), current_setting('wal_level'),
    (extract(epoch from clock_timestamp()) * 1000000)::int8, current_setting('max_connections')::int8,
    (select count(*) from pg_catalog.pg_stat_activity where backend_type = 'client backend'),
    pg_is_in_recovery(), has_schema_privilege($1::text, 'create')
