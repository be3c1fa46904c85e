-- What a store hands out to be moved elsewhere, and how it is filled: each table by its key. See transfer.py of the toolkit.

-- name: extract_journal
-- The next facts.
select position, topic, partition, key, stream, version, value
from {schema}.journal where position > $1::int8
order by position limit $2::int8

-- name: take_journal
-- More facts.
insert into {schema}.journal (position, topic, partition, key, stream, version, value)
select * from unnest($1::int8[], $2::text[], $3::int8[], $4::text[], $5::text[], $6::int8[], $7::bytea[])

-- name: extract_snapshot
-- The next snapshots.
select stream, value from {schema}.snapshot where stream > $1::text order by stream limit $2::int8

-- name: take_snapshot
-- More snapshots.
insert into {schema}.snapshot (stream, value)
select * from unnest($1::text[], $2::bytea[])

-- name: extract_state
-- The next rows of handlers.
select kind, key, value from {schema}.state where (kind, key) > ($1::text, $2::text) order by kind, key limit $3::int8

-- name: take_state
-- More rows of handlers.
insert into {schema}.state (kind, key, value)
select * from unnest($1::text[], $2::text[], $3::bytea[])

-- name: extract_position
-- The next read positions.
select processor, topic, partition, token, body
from {schema}.position where (processor, topic, partition) > ($1::text, $2::text, $3::int8)
order by processor, topic, partition limit $4::int8

-- name: take_position
-- More read positions.
insert into {schema}.position (processor, topic, partition, token, body)
select * from unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::bytea[])

-- name: extract_held
-- The next held messages.
select processor, topic, partition, "offset", key, state, value, reason, detail, attempts, due, deadline, first_at,
    fingerprint, last_at, history, replaces
from {schema}.held where (processor, topic, partition, "offset") > ($1::text, $2::text, $3::int8, $4::int8)
order by processor, topic, partition, "offset" limit $5::int8

-- name: take_held
-- More held messages.
insert into {schema}.held (processor, topic, partition, "offset", key, state, value, reason, detail, attempts, due,
    deadline, first_at, fingerprint, last_at, history, replaces)
select *
from unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::bytea[], $8::text[],
    $9::text[], $10::int8[], $11::int8[], $12::int8[], $13::int8[], $14::text[], $15::int8[], $16::text[], $17::text[])

-- name: extract_closed
-- The next closed letters.
select processor, topic, partition, "offset", number, key, value, reason, detail, attempts, first_at, fingerprint, last_at, history,
    replaces, how, at, who, note, successor
from {schema}.closed where (processor, topic, partition, "offset", number) > ($1::text, $2::text, $3::int8, $4::int8, $5::int8)
order by processor, topic, partition, "offset", number limit $6::int8

-- name: take_closed
-- More closed letters.
insert into {schema}.closed (processor, topic, partition, "offset", number, key, value, reason, detail, attempts, first_at, fingerprint, last_at, history,
    replaces, how, at, who, note, successor)
select *
from unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::int8[], $6::text[], $7::bytea[], $8::text[], $9::text[], $10::int8[],
    $11::int8[], $12::text[], $13::int8[], $14::text[], $15::text[], $16::text[], $17::int8[], $18::text[], $19::text[], $20::text[])

-- name: extract_timer
-- The next timers.
select processor, key, name, partition, due, event_time::int::int8, type, data, correlation, causation
from {schema}.timer where (processor, key, name) > ($1::text, $2::text, $3::text)
order by processor, key, name limit $4::int8

-- name: take_timer
-- More timers.
insert into {schema}.timer (processor, key, name, partition, due, event_time, type, data, correlation, causation)
select w.processor, w.key, w.name, w.partition, w.due, w.event_time <> 0, w.type, w.data, w.correlation, w.causation
from unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::int8[], $7::text[], $8::bytea[],
    $9::text[], $10::text[]) w(processor, key, name, partition, due, event_time, type, data, correlation, causation)

-- name: extract_view
-- The next builds.
select id, name, version, state from {schema}.view where id > $1::int8 order by id limit $2::int8

-- name: take_view
-- More builds.
insert into {schema}.view (id, name, version, state) overriding system value
select * from unnest($1::int8[], $2::text[], $3::int8[], $4::text[])

-- name: extract_document
-- The next documents.
select view, key, value from {schema}.document where (view, key) > ($1::int8, $2::text) order by view, key limit $3::int8

-- name: take_document
-- More documents.
insert into {schema}.document (view, key, value)
select * from unnest($1::int8[], $2::text[], $3::bytea[])

-- name: extract_lookup
-- The next look-ups.
select view, field, value, sort, key
from {schema}.lookup where (view, field, value, sort, key) > ($1::int8, $2::text, $3::text, $4::text, $5::text)
order by view, field, value, sort, key limit $6::int8

-- name: take_lookup
-- More look-ups.
insert into {schema}.lookup (view, field, value, sort, key)
select * from unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::text[])

-- name: extract_answer
-- The next first answers.
select scope, key, fingerprint, value, at
from {schema}.answer where (scope, key) > ($1::text, $2::text)
order by scope, key limit $3::int8

-- name: take_answer
-- More first answers.
insert into {schema}.answer (scope, key, fingerprint, value, at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::int8[])

-- name: extract_seen
-- The next foreign records.
select processor, source, id, at
from {schema}.seen where (processor, source, id) > ($1::text, $2::text, $3::text)
order by processor, source, id limit $4::int8

-- name: take_seen
-- More foreign records.
insert into {schema}.seen (processor, source, id, at)
select * from unnest($1::text[], $2::text[], $3::text[], $4::int8[])

-- name: figures
-- What is known beside the tables.
select (select value
from {schema}.meta where name = 'epoch')::int8, last, removed, builds.last_value - (not builds.is_called)::int
from {schema}.journal_head, {schema}.view_id_seq builds

-- name: tables
-- Every table of the schema.
select c.relname::text
from pg_catalog.pg_class c where c.relkind in ('r', 'p') and c.relnamespace = $1::text::regnamespace
order by 1

-- name: arrival
-- How far this store was filled from elsewhere.
select value from {schema}.meta where name = 'arrival'

-- name: note_arrival
-- How far this store is filled.
insert into {schema}.meta (name, value) values ('arrival', $1::text) on conflict (name) do update set value = excluded.value

-- name: set_head
-- The last position that was given, and how many rows retention has removed.
update {schema}.journal_head set last = $1::int8, removed = $2::int8

-- name: set_epoch
-- The journal's epoch.
update {schema}.meta set value = $1::text where name = 'epoch'

-- name: set_builds
-- The last number that a build has had.
select setval('{schema}.view_id_seq', greatest($1::int8, 1), $1::int8 > 0)
