-- Schema 2 of a service's store: what is known of a dead letter beside its last failure, and the letters that operators have closed.

alter table {schema}.held
    add column fingerprint text collate "C" not null default '',        -- of the last failure: what failed where, without values
    add column last_at bigint not null default 0,                       -- when that was
    add column history text not null default '',                        -- JSON: how it died before it was redriven
    add column replaces text not null default '';                       -- id of the message whose place an edited one has taken
update {schema}.held set last_at = first_at;
create index held_dead on {schema}.held (first_at, processor, topic, partition, "offset") where state = 'dead';

create table {schema}.closed (                  -- dead letters that were discarded or edited, or that the relay has said again
    processor text collate "C" not null,
    topic text collate "C" not null,
    partition integer not null,
    "offset" bigint not null,
    number bigint not null,                     -- tells those of one place apart
    key text collate "C" not null,
    value bytea not null,
    reason text not null,
    detail text not null,
    attempts bigint not null,
    first_at bigint not null,
    fingerprint text collate "C" not null,
    last_at bigint not null,
    history text not null,
    replaces text not null,
    how text not null,
    at bigint not null,
    who text not null,
    note text not null,
    successor text not null,
    primary key (processor, topic, partition, "offset", number)
);
create index closed_at on {schema}.closed (at, processor, topic, partition, "offset", number);
