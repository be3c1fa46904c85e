-- Schema 1 of a service's store. One file per service; every table is written in the service's own transactions.

create table journal (                  -- everything the service has said: event store and outbox at once
    position integer primary key autoincrement,
    topic text,                         -- null: belongs to a stream but is not published
    partition integer not null,
    key text not null,
    stream text,
    version integer,
    value blob not null                 -- the CloudEvent as it goes to the log
);
create unique index journal_stream on journal (stream, version) where stream is not null;

create table snapshot (                 -- folds of streams; rows may be deleted at any time
    stream text not null unique,
    value blob not null
);

create table state (                    -- keyed rows of handlers
    kind text not null,
    key text not null,
    value blob not null,
    primary key (kind, key)
) without rowid;

create table position (                 -- how far each processor has read, its fencing token, its counters
    processor text not null,
    topic text not null,
    partition integer not null,
    token integer not null,
    body blob not null,
    primary key (processor, topic, partition)
) without rowid;

create table held (                     -- messages that wait or are dead
    processor text not null,
    topic text not null,
    partition integer not null,
    offset integer not null,
    key text not null,
    state text not null,
    value blob not null,
    reason text not null,
    detail text not null,
    attempts integer not null,
    due integer not null,
    deadline integer not null,
    first_at integer not null,
    primary key (processor, topic, partition, offset)
) without rowid;
create index held_key on held (processor, key);

create table timer (
    processor text not null,
    key text not null,
    name text not null,
    partition integer not null,
    due integer not null,
    event_time integer not null,
    type text not null,
    data blob not null,
    correlation text not null,
    causation text not null,
    primary key (processor, key, name)
) without rowid;
create index timer_due on timer (processor, partition, due);

create table view (
    id integer primary key autoincrement,
    name text not null,
    version integer not null,
    state text not null
);

create table document (                 -- documents are large: a rowid table needs no overflow page for them
    view integer not null,
    key text not null,
    value blob not null,
    unique (view, key)
);

create table lookup (                   -- field '' lists every document
    view integer not null,
    field text not null,
    value text not null,
    sort text not null,
    key text not null,
    primary key (view, field, value, sort, key)
) without rowid;

create table answer (                   -- the first answer to an idempotency key
    scope text not null,
    key text not null,
    fingerprint text not null,
    value blob not null,
    at integer not null,
    primary key (scope, key)
) without rowid;
create index answer_at on answer (at);

create table seen (                     -- records of foreign producers, by processor
    processor text not null,
    source text not null,
    id text not null,
    at integer not null,
    primary key (processor, source, id)
) without rowid;
create index seen_at on seen (at);

create table meta (name text primary key, value text not null) without rowid;
insert into meta (name, value) values ('epoch', '1'), ('journal_removed', '0');
