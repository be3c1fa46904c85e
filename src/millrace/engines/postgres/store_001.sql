-- Schema 1 of a service's store. One database schema per service; every table is written in the service's own transactions.
-- Keys compare by code point (collate "C"), as Python and the embedded engine compare them. Tables whose rows are replaced all the time
-- leave room in their pages, so that a new version of a row needs no new index entry.

create table {schema}.meta (
    name text primary key,
    value text not null
);
insert into {schema}.meta (name, value) values ('kind', 'millrace store'), ('epoch', '1');

create table {schema}.journal (                 -- everything the service has said: event store and outbox at once
    position bigint primary key,
    topic text,                                 -- null: belongs to a stream but is not published
    partition integer not null,
    key text collate "C" not null,
    stream text collate "C",
    version integer,
    value bytea not null                        -- the CloudEvent as it goes to the log
);
create unique index journal_stream on {schema}.journal (stream, version) where stream is not null;

create table {schema}.journal_head (            -- one row: the last position ever given to a committed row; locked by who appends
    one boolean primary key default true check (one),
    last bigint not null,
    removed bigint not null                     -- rows that retention removed
) with (fillfactor = 10);
insert into {schema}.journal_head (last, removed) values (0, 0);

create table {schema}.snapshot (                -- folds of streams; rows may be deleted at any time
    stream text collate "C" primary key,
    value bytea not null
) with (fillfactor = 80);

create table {schema}.state (                   -- keyed rows of handlers
    kind text collate "C" not null,
    key text collate "C" not null,
    value bytea not null,
    primary key (kind, key)
) with (fillfactor = 80);

create table {schema}.position (                -- how far each processor has read, its fencing token, its counters
    processor text collate "C" not null,
    topic text collate "C" not null,
    partition integer not null,
    token bigint not null,
    body bytea not null,
    primary key (processor, topic, partition)
) with (fillfactor = 20);

create table {schema}.held (                    -- messages that wait or are dead
    processor text collate "C" not null,
    topic text collate "C" not null,
    partition integer not null,
    "offset" bigint not null,
    key text collate "C" not null,
    state text not null,
    value bytea not null,
    reason text not null,
    detail text not null,
    attempts bigint not null,
    due bigint not null,
    deadline bigint not null,
    first_at bigint not null,
    primary key (processor, topic, partition, "offset")
);
create index held_key on {schema}.held (key, processor);   -- led by what the primary key is not led by

create table {schema}.timer (
    processor text collate "C" not null,
    key text collate "C" not null,
    name text collate "C" not null,
    partition integer not null,
    due bigint not null,
    event_time boolean not null,
    type text not null,
    data bytea not null,
    correlation text not null,
    causation text not null,
    primary key (processor, key, name)
);
create index timer_due on {schema}.timer (processor, partition, due);

create table {schema}.view (
    id bigint generated always as identity primary key,
    name text collate "C" not null,
    version bigint not null,
    state text not null
);

create table {schema}.document (
    view bigint not null,
    key text collate "C" not null,
    value bytea not null,
    primary key (view, key)
) with (fillfactor = 80);

create table {schema}.lookup (                  -- field '' lists every document
    view bigint not null,
    field text collate "C" not null,
    value text collate "C" not null,
    sort text collate "C" not null,
    key text collate "C" not null,
    primary key (view, field, value, sort, key)
);

create table {schema}.answer (                  -- the first answer to an idempotency key
    scope text collate "C" not null,
    key text collate "C" not null,
    fingerprint text not null,
    value bytea not null,
    at bigint not null,
    primary key (scope, key)
);
create index answer_at on {schema}.answer (at);

create table {schema}.seen (                    -- records of foreign producers, by processor
    processor text collate "C" not null,
    source text collate "C" not null,
    id text collate "C" not null,
    at bigint not null,
    primary key (processor, source, id)
);
create index seen_at on {schema}.seen (at);
