-- What a store hands out to be moved elsewhere, and how it is filled: each table by its key. See transfer.py of the toolkit.

-- name: extract_journal
-- The next facts.
select position, topic, partition, key, stream, version, value from journal where position > ? order by position limit ?

-- name: take_journal
-- More facts.
insert into journal (position, topic, partition, key, stream, version, value) values (?, ?, ?, ?, ?, ?, ?)

-- name: extract_snapshot
-- The next snapshots.
select stream, value from snapshot where stream > ? order by stream limit ?

-- name: take_snapshot
-- More snapshots.
insert into snapshot (stream, value) values (?, ?)

-- name: extract_state
-- The next rows of handlers.
select kind, key, value from state where (kind, key) > (?, ?) order by kind, key limit ?

-- name: take_state
-- More rows of handlers.
insert into state (kind, key, value) values (?, ?, ?)

-- name: extract_position
-- The next read positions.
select processor, topic, partition, token, body
from position where (processor, topic, partition) > (?, ?, ?)
order by processor, topic, partition limit ?

-- name: take_position
-- More read positions.
insert into position (processor, topic, partition, token, body) values (?, ?, ?, ?, ?)

-- name: extract_held
-- The next held messages.
select processor, topic, partition, offset, key, state, value, reason, detail, attempts, due, deadline, first_at,
    fingerprint, last_at, history, replaces
from held where (processor, topic, partition, offset) > (?, ?, ?, ?)
order by processor, topic, partition, offset limit ?

-- name: take_held
-- More held messages.
insert into held (processor, topic, partition, offset, key, state, value, reason, detail, attempts, due, deadline, first_at,
    fingerprint, last_at, history, replaces)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: extract_closed
-- The next closed letters.
select processor, topic, partition, offset, number, key, value, reason, detail, attempts, first_at, fingerprint, last_at,
    history, replaces, how, at, who, note, successor
from closed where (processor, topic, partition, offset, number) > (?, ?, ?, ?, ?)
order by processor, topic, partition, offset, number limit ?

-- name: take_closed
-- More closed letters.
insert into closed (processor, topic, partition, offset, number, key, value, reason, detail, attempts, first_at, fingerprint, last_at,
    history, replaces, how, at, who, note, successor)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: extract_timer
-- The next timers.
select processor, key, name, partition, due, event_time, type, data, correlation, causation
from timer where (processor, key, name) > (?, ?, ?)
order by processor, key, name limit ?

-- name: take_timer
-- More timers.
insert into timer (processor, key, name, partition, due, event_time, type, data, correlation, causation)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: extract_view
-- The next builds.
select id, name, version, state from view where id > ? order by id limit ?

-- name: take_view
-- More builds.
insert into view (id, name, version, state) values (?, ?, ?, ?)

-- name: extract_document
-- The next documents.
select view, key, value from document where (view, key) > (?, ?) order by view, key limit ?

-- name: take_document
-- More documents.
insert into document (view, key, value) values (?, ?, ?)

-- name: extract_lookup
-- The next look-ups.
select view, field, value, sort, key
from lookup where (view, field, value, sort, key) > (?, ?, ?, ?, ?)
order by view, field, value, sort, key limit ?

-- name: take_lookup
-- More look-ups.
insert into lookup (view, field, value, sort, key) values (?, ?, ?, ?, ?)

-- name: extract_answer
-- The next first answers.
select scope, key, fingerprint, value, at from answer where (scope, key) > (?, ?) order by scope, key limit ?

-- name: take_answer
-- More first answers.
insert into answer (scope, key, fingerprint, value, at) values (?, ?, ?, ?, ?)

-- name: extract_seen
-- The next foreign records.
select processor, source, id, at from seen where (processor, source, id) > (?, ?, ?) order by processor, source, id limit ?

-- name: take_seen
-- More foreign records.
insert into seen (processor, source, id, at) values (?, ?, ?, ?)

-- name: figures
-- What is known beside the tables.
select (select value from meta where name = 'epoch'), coalesce((select seq from sqlite_sequence where name = 'journal'), 0),
    (select value from meta where name = 'journal_removed'), coalesce((select seq from sqlite_sequence where name = 'view'), 0)

-- name: tables
-- Every table of the file.
select name from sqlite_schema where type = 'table' and name not like 'sqlite_%' order by name

-- name: arrival
-- How far this store was filled from elsewhere.
select value from meta where name = 'arrival'

-- name: note_arrival
-- How far this store is filled.
insert into meta (name, value) values ('arrival', ?) on conflict (name) do update set value = excluded.value

-- name: set_meta
-- What is known beside the tables.
update meta set value = ? where name = ?

-- name: forget_sequence
-- The last number of a table; SQLite keeps it without a key.
delete from sqlite_sequence where name = ?

-- name: set_sequence
-- The last number of a table.
insert into sqlite_sequence (name, seq) values (?, ?)
