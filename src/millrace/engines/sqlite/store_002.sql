-- Schema 2 of a service's store: what is known of a dead letter beside its last failure, and the letters that operators have closed.

alter table held add column fingerprint text not null default '';   -- of the last failure: what failed where, without values
alter table held add column last_at integer not null default 0;     -- when that was
alter table held add column history text not null default '';       -- JSON: how it died before it was redriven
alter table held add column replaces text not null default '';      -- id of the message whose place an edited one has taken
update held set last_at = first_at;
drop index held_key;                                                -- it answers alone now what is first of each key
create index held_key on held (processor, key, topic, partition, offset, state, due);
create index held_dead on held (first_at, processor, topic, partition, offset) where state = 'dead';

create table closed (                   -- dead letters that were discarded or edited, or that the relay has said again
    processor text not null,
    topic text not null,
    partition integer not null,
    offset integer not null,
    number integer not null,            -- tells those of one place apart
    key text not null,
    value blob not null,
    reason text not null,
    detail text not null,
    attempts integer not null,
    first_at integer not null,
    fingerprint text not null,
    last_at integer not null,
    history text not null,
    replaces text not null,
    how text not null,
    at integer not null,
    who text not null,
    note text not null,
    successor text not null,
    primary key (processor, topic, partition, offset, number)
);                                      -- a rowid table: its values are large
create index closed_at on closed (at, processor, topic, partition, offset, number);
