-- What befalls the schemas of a store behind the engine's back; run by `postgres_kit` on connections of its own.
-- {schema} is the schema as it is, without quotes.

-- name: empty_journal
with gone as (delete from "{schema}".journal returning 1) select count(*) from gone

-- name: count_removed
update "{schema}".journal_head set removed = removed + %s

-- name: lose_journal
delete from "{schema}".journal where position = (select min(position) from "{schema}".journal)

-- name: lose_dead_letters
delete from "{schema}".held where (processor, topic, partition, "offset") = (
    select processor, topic, partition, "offset" from "{schema}".held where state = 'dead' order by 1, 2, 3, 4 limit 1)

-- name: forget_snapshots
with gone as (delete from "{schema}".snapshot returning 1) select count(*) from gone

-- name: spoil_stream
update "{schema}".journal set value = '\x00' where stream = %s and version = 1

-- name: save_copy
do $$
declare name text;
begin
    drop schema if exists "{schema}_copy" cascade;
    create schema "{schema}_copy";
    for name in select tablename from pg_tables where schemaname = '{schema}' loop
        execute format('create table "{schema}_copy".%I as table "{schema}".%I', name, name);
    end loop;
end $$

-- name: restore_copy
do $$
declare name text;
begin
    for name in select tablename from pg_tables where schemaname = '{schema}_copy' loop
        execute format('truncate "{schema}".%I', name);
        execute format('insert into "{schema}".%I overriding system value table "{schema}_copy".%I', name, name);
    end loop;
end $$

-- name: forget_schemas
do $$
declare name text;
begin
    for name in select nspname from pg_namespace where starts_with(nspname, '{schema}_') loop
        execute format('drop schema %I cascade', name);
    end loop;
end $$

-- name: end_backends
select count(pg_terminate_backend(pid)) from pg_stat_activity where pid = any(%s)
