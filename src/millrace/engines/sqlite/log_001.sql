-- Schema 1 of the log file: topics with partitions, and how far each source has published.

create table topic (
    id integer primary key autoincrement,
    name text not null unique,
    identity text not null,             -- changes when a topic is created anew, so a reader notices
    retention_s integer
);

create table partition (
    topic integer not null,
    partition integer not null,
    first integer not null,             -- offsets [first, next) are there, without gaps
    next integer not null,
    primary key (topic, partition)
) without rowid;

create table record (
    topic integer not null,
    partition integer not null,
    offset integer not null,
    key text,
    value blob not null,
    at integer not null,
    primary key (topic, partition, offset)
) without rowid;

create table relay (                    -- written with the append: the relay's position cannot disagree with the records
    source text not null,
    epoch integer not null,
    position integer not null,
    rows integer not null,
    primary key (source, epoch)
) without rowid;
