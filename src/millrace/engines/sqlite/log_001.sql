-- Schema 1 of the log file: topics with partitions, and how far each source has published.

create table topic (
    id integer primary key autoincrement,
    name text not null unique,
    identity text not null,             -- changes when a topic is created anew, so a reader notices
    retention_s integer
);

create table partition (
    id integer primary key,
    topic integer not null,
    partition integer not null,
    first integer not null,             -- offsets [first, next) are there, without gaps
    next integer not null,
    unique (topic, partition)
);

-- A record is found by one integer, partition.id << 40 | offset: the rows of a partition lie together in one tree, and values of
-- more than a quarter page need no overflow page, as they would in a table without rowid.
create table record (
    place integer primary key,
    key text,
    value blob not null,
    at integer not null,
    position integer not null           -- the source's journal position; 0: put by a foreign producer
);

create table relay (                    -- written with the append: the relay's position cannot disagree with the records
    source text not null,
    epoch integer not null,
    position integer not null,
    rows integer not null,
    primary key (source, epoch)
) without rowid;
