-- A role per service, for an administrator who may make roles and schemas. May be run again; what is there already of a schema goes over to
-- the role. `{role}` and `{schema}` stand for text values.

-- name: role
-- The role gets a password, or a certificate, by the server's own means.
do $millrace$
declare
    service name := {role};
    store name := {schema};
    each regclass;
begin
    if not exists (select from pg_catalog.pg_roles where rolname = service) then
        execute format('create role %I login', service);
    end if;
    execute format('create schema if not exists %I', store);
    execute format('alter schema %I owner to %I', store, service);
    execute format('revoke all on schema %I from public', store);
    for each in
        select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where n.nspname = store and c.relkind in ('r', 'p')
    loop
        execute format('alter table %s owner to %I', each, service);
    end loop;
end
$millrace$
