-- The statements of a store. {schema} is the service's schema, quoted.
--
-- A statement marked `locking` exists twice: as it stands for readers, and for write transactions with `for update` in place of
-- `offset 0`, or at its end where it has none. Keys are joined as `lateral (... offset 0)`, which the planner may not take apart: it is one
-- look-up per key, in the order of the keys, whatever the statistics say. A plain join, or `any`, is planned by them, and a plan made
-- while a table was small would read all of it later. Callers sort the keys, so rows are locked in that order.
--
-- A statement marked `fresh` is planned anew each time, by the size that its table has then; a delete has no other way.

-- name: begin
-- A write transaction.
begin isolation level read committed read write

-- name: commit
-- Make it durable.
commit

-- name: rollback
-- Undo it.
rollback

-- name: savepoint
-- What follows may be undone alone.
savepoint work

-- name: release
-- What followed the savepoint stays.
release savepoint work

-- name: undo
-- Undo what followed the savepoint.
rollback to savepoint work

-- name: for_the_application
-- The application's own SQL finds the tables of its service first, and is planned as it would be anywhere.
select set_config('search_path', $1::text || ', public', true), set_config('enable_seqscan', 'on', true),
    set_config('enable_bitmapscan', 'on', true), set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true),
    set_config('enable_material', 'on', true)

-- name: for_ourselves
-- The engine's statements are planned by index again.
select set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), set_config('enable_material', 'off', true)

-- name: load_states, locking
-- Rows of a kind by key.
select s.key, s.value from unnest($2::text[]) w(key)
cross join lateral (select * from {schema}.state s where s.kind = $1::text and s.key = w.key offset 0) s

-- name: save_states
-- Insert or replace rows of a kind.
insert into {schema}.state (kind, key, value) select $1::text, * from unnest($2::text[], $3::bytea[])
on conflict (kind, key) do update set value = excluded.value

-- name: add_states
-- Rows of a kind that this transaction found absent; one that is there by now is a conflict.
insert into {schema}.state (kind, key, value) select $1::text, * from unnest($2::text[], $3::bytea[])

-- name: delete_states, fresh
-- Remove rows.
delete from {schema}.state s using unnest($1::text[], $2::text[]) w(kind, key) where s.kind = w.kind and s.key = w.key

-- name: expect_no_states
-- Fails by a division if one of the rows is there.
select 1 / (not exists (
    select from unnest($1::text[], $2::text[]) w(kind, key)
    cross join lateral (select from {schema}.state s where s.kind = w.kind and s.key = w.key offset 0) s))::int

-- name: page_states
-- Rows of a kind in key order.
select key, value from {schema}.state where kind = $1::text and key > $2::text collate "C" order by key limit $3::int8

-- name: streams
-- Events of streams above a version each.
select j.stream, j.version, j.value
from unnest($1::text[], $2::int8[]) w(stream, version)
cross join lateral (
    select * from {schema}.journal j where j.stream = w.stream and j.version > w.version and j.version <= $3::int8 offset 0) j
order by j.stream, j.version

-- name: load_snapshots
-- The last snapshot of streams.
select s.stream, s.value from unnest($1::text[]) w(stream)
cross join lateral (select * from {schema}.snapshot s where s.stream = w.stream offset 0) s

-- name: save_snapshots
-- Replace snapshots.
insert into {schema}.snapshot (stream, value) select * from unnest($1::text[], $2::bytea[])
on conflict (stream) do update set value = excluded.value

-- name: last_position
-- The last position given to a committed row, kept even when the journal is empty.
select last from {schema}.journal_head

-- name: reserve
-- Wait for who appends, and take positions.
update {schema}.journal_head set last = last + $1::int8 returning last - $1::int8 + 1

-- name: lock_head
-- Wait for who appends.
select 1 from {schema}.journal_head for update

-- name: outcome
-- Whether exactly these rows are in the journal.
select count(*) = cardinality($1::int8[]) from unnest($1::int8[], $2::bytea[]) w(position, value)
cross join lateral (select * from {schema}.journal j where j.position = w.position and j.value = w.value offset 0) j

-- name: append_journal
-- Facts at the positions that were reserved for them.
insert into {schema}.journal (position, topic, partition, key, stream, version, value)
select * from unnest($1::int8[], $2::text[], $3::int8[], $4::text[], $5::text[], $6::int8[], $7::bytea[])

-- name: tail_journal
-- The next rows above a position, and no more of them than fit into some bytes.
select position, topic, partition, key, value from (
    select *, sum(octet_length(value)) over (order by position) as bytes
    from (select * from {schema}.journal where position > $1::int8 order by position limit $2::int8) next
) counted
where bytes - octet_length(value) <= $3::int8 order by position

-- name: count_journal
-- Positions ever given, rows there, rows that retention removed, rows up to a position that are to be published or were and are removed.
select h.last, (select count(*) from {schema}.journal), h.removed,
    h.removed + (select count(*) from {schema}.journal where topic is not null and position <= $1::int8)
from {schema}.journal_head h

-- name: trim_journal, fresh
-- Remove rows for the log that belong to no stream, among the next ones; count them; say up to where it looked.
with reach as (
    select coalesce(max(position), $2::int8) as upto
    from (select position from {schema}.journal where position > $1::int8 and position <= $2::int8 order by position limit $3::int8) next),
gone as (
    delete from {schema}.journal where position > $1::int8 and position <= (select upto from reach) and stream is null and topic is not null
    returning 1),
counted as (update {schema}.journal_head set removed = removed + (select count(*) from gone) where exists (select from gone))
select (select count(*) from gone), upto from reach

-- name: noted
-- What retention has noted.
select value from {schema}.meta where name = 'retention'

-- name: note
-- What retention notes.
insert into {schema}.meta (name, value) values ('retention', $1::text) on conflict (name) do update set value = excluded.value

-- name: load_positions, locking
-- Every position of a processor.
select p.topic, p.partition, p.token, p.body from {schema}.position p where p.processor = $1::text order by p.topic, p.partition

-- name: load_places, locking
-- Some positions of a processor.
select p.topic, p.partition, p.token, p.body from unnest($2::text[], $3::int8[]) w(topic, partition)
cross join lateral (
    select * from {schema}.position p where p.processor = $1::text and p.topic = w.topic and p.partition = w.partition offset 0) p

-- name: claim_positions
-- A new fencing token in each position; the rest of a row that is there stays as it is.
insert into {schema}.position as p (processor, topic, partition, token, body)
select $1::text, w.topic, w.partition, 1, w.body from unnest($2::text[], $3::int8[], $4::bytea[]) w(topic, partition, body)
on conflict (processor, topic, partition) do update set token = p.token + 1
returning topic, partition, token, body

-- name: save_positions
-- Positions with their counters.
insert into {schema}.position (processor, topic, partition, token, body)
select * from unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::bytea[])
on conflict (processor, topic, partition) do update set token = excluded.token, body = excluded.body

-- name: forget_positions
-- A processor starts anew.
delete from {schema}.position where processor = $1::text

-- name: forget_held
-- A processor starts anew.
delete from {schema}.held where processor = $1::text

-- name: forget_timers
-- A processor starts anew.
delete from {schema}.timer where processor = $1::text

-- name: forget_seen
-- A processor starts anew.
delete from {schema}.seen where processor = $1::text

-- name: processors
-- Everyone who reads.
select distinct processor from {schema}.position order by 1

-- name: load_held, locking
-- Held messages of a processor in the order of the log.
select h.processor, h.topic, h.partition, h."offset", h.key, h.state, h.value, h.reason, h.detail, h.attempts, h.due, h.deadline, h.first_at,
    h.fingerprint, h.last_at, h.history, h.replaces
from {schema}.held h where h.processor = $1::text order by h.topic, h.partition, h."offset"

-- name: load_held_keys, locking
-- Held messages of some keys in the order of the log.
select h.processor, h.topic, h.partition, h."offset", h.key, h.state, h.value, h.reason, h.detail, h.attempts, h.due, h.deadline, h.first_at,
    h.fingerprint, h.last_at, h.history, h.replaces
from unnest($2::text[]) w(key)
cross join lateral (select * from {schema}.held h where h.processor = $1::text and h.key = w.key offset 0) h
order by h.topic, h.partition, h."offset"

-- name: blocked
-- The first held message of every key. Nothing waits behind what is dead and has no key.
select distinct on (topic, partition, key) topic, partition, key, state, due, "offset"
from {schema}.held where processor = $1::text and (key <> '' or state <> 'dead') order by topic, partition, key, "offset"

-- name: save_held
-- Insert or replace.
insert into {schema}.held (processor, topic, partition, "offset", key, state, value, reason, detail, attempts, due, deadline, first_at,
    fingerprint, last_at, history, replaces)
select * from unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::text[], $6::text[], $7::bytea[], $8::text[], $9::text[],
    $10::int8[], $11::int8[], $12::int8[], $13::int8[], $14::text[], $15::int8[], $16::text[], $17::text[])
on conflict (processor, topic, partition, "offset") do update set key = excluded.key, state = excluded.state, value = excluded.value,
    reason = excluded.reason, detail = excluded.detail, attempts = excluded.attempts, due = excluded.due,
    deadline = excluded.deadline, first_at = excluded.first_at, fingerprint = excluded.fingerprint, last_at = excluded.last_at,
    history = excluded.history, replaces = excluded.replaces

-- name: remove_held, fresh
-- Messages that wait no more.
delete from {schema}.held h using unnest($1::text[], $2::text[], $3::int8[], $4::int8[]) w(processor, topic, partition, "offset")
where h.processor = w.processor and h.topic = w.topic and h.partition = w.partition and h."offset" = w."offset"

-- name: list_held
-- Held messages of every processor, oldest first.
select processor, topic, partition, "offset", key, state, value, reason, detail, attempts, due, deadline, first_at,
    fingerprint, last_at, history, replaces
from {schema}.held where $1::text is null or state = $1::text order by first_at, processor, topic, partition, "offset" limit $2::int8

-- name: count_held
-- Waiting and dead per partition.
select processor, topic, partition, count(*) filter (where state <> 'dead'), count(*) filter (where state = 'dead')
from {schema}.held group by 1, 2, 3

-- name: page_letters, fresh
-- Dead letters behind a mark, oldest first.
select processor, topic, partition, "offset", key, state, value, reason, detail, attempts, due, deadline, first_at,
    fingerprint, last_at, history, replaces
from {schema}.held where state = 'dead'
    and (first_at, processor, topic, partition, "offset") > ($8::int8, $9::text, $10::text, $11::int8, $12::int8)
    and ($1::text is null or processor = $1::text) and ($2::text is null or topic = $2::text)
    and ($3::text is null or key = $3::text) and ($4::text is null or reason = $4::text)
    and ($5::text is null or fingerprint = $5::text)
    and ($6::int8 is null or last_at >= $6::int8) and ($7::int8 is null or last_at <= $7::int8)
order by first_at, processor, topic, partition, "offset" limit $13::int8

-- name: take_letters, locking
-- What is held at places.
select h.processor, h.topic, h.partition, h."offset", h.key, h.state, h.value, h.reason, h.detail, h.attempts, h.due, h.deadline, h.first_at,
    h.fingerprint, h.last_at, h.history, h.replaces
from unnest($1::text[], $2::text[], $3::int8[], $4::int8[]) w(processor, topic, partition, "offset")
cross join lateral (
    select * from {schema}.held h
    where h.processor = w.processor and h.topic = w.topic and h.partition = w.partition and h."offset" = w."offset" offset 0
) h
order by h.processor, h.topic, h.partition, h."offset"

-- name: group_letters, fresh
-- Dead letters that failed in the same way, with the oldest of them.
select fingerprint, processor, reason, count(*), sum(octet_length(value))::int8, min(first_at), max(last_at),
    (array_agg(topic order by first_at, topic, partition, "offset"))[1],
    (array_agg(partition order by first_at, topic, partition, "offset"))[1]::int8,
    (array_agg("offset" order by first_at, topic, partition, "offset"))[1]
from {schema}.held where state = 'dead'
    and ($1::text is null or processor = $1::text) and ($2::text is null or topic = $2::text)
    and ($3::text is null or key = $3::text) and ($4::text is null or reason = $4::text)
    and ($5::text is null or fingerprint = $5::text)
    and ($6::int8 is null or last_at >= $6::int8) and ($7::int8 is null or last_at <= $7::int8)
group by fingerprint, processor, reason order by count(*) desc, fingerprint, processor, reason

-- name: count_behind
-- Messages that wait behind one of their key, in the order asked.
select (
    select count(*) from {schema}.held h where h.processor = w.processor and h.key = w.key and h.topic = w.topic
    and h.partition = w.partition and h."offset" > w."offset" and w.key <> ''
)
from unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::text[])
    with ordinality w(processor, topic, partition, "offset", key, place)
order by w.place

-- name: close_letters, fresh
-- Dead letters are closed; those of one place are numbered.
insert into {schema}.closed (processor, topic, partition, "offset", number, key, value, reason, detail, attempts, first_at, fingerprint, last_at, history,
    replaces, how, at, who, note, successor)
select w.processor, w.topic, w.partition, w."offset", (
        select coalesce(max(c.number), 0) + 1 from {schema}.closed c
        where c.processor = w.processor and c.topic = w.topic and c.partition = w.partition and c."offset" = w."offset"
    ), w.key, w.value, w.reason, w.detail, w.attempts, w.first_at, w.fingerprint, w.last_at, w.history, w.replaces, w.how, w.at, w.who,
    w.note, w.successor
from unnest($1::text[], $2::text[], $3::int8[], $4::int8[], $5::text[], $6::bytea[], $7::text[], $8::text[], $9::int8[], $10::int8[],
    $11::text[], $12::int8[], $13::text[], $14::text[], $15::text[], $16::int8[], $17::text[], $18::text[], $19::text[])
    w(processor, topic, partition, "offset", key, value, reason, detail, attempts, first_at, fingerprint, last_at, history, replaces,
    how, at, who, note, successor)

-- name: closed_letters, fresh
-- Closed letters behind a mark, in the order of closing.
select processor, topic, partition, "offset", number, key, value, reason, detail, attempts, first_at, fingerprint, last_at, history,
    replaces, how, at, who, note, successor
from {schema}.closed
where (at, processor, topic, partition, "offset", number) > ($8::int8, $9::text, $10::text, $11::int8, $12::int8, $13::int8)
    and ($1::text is null or processor = $1::text) and ($2::text is null or topic = $2::text)
    and ($3::text is null or key = $3::text) and ($4::text is null or reason = $4::text)
    and ($5::text is null or fingerprint = $5::text)
    and ($6::int8 is null or last_at >= $6::int8) and ($7::int8 is null or last_at <= $7::int8)
order by at, processor, topic, partition, "offset", number limit $14::int8

-- name: forget_closed
-- Letters that were closed long ago; says how many.
with gone as (delete from {schema}.closed where at < $1::int8 and processor <> 'relay' returning 1) select count(*) from gone

-- name: empty_closed
-- The ledger counts rows that the log could not take; their bytes go.
update {schema}.closed set value = '', detail = '' where at < $1::int8 and processor = 'relay' and octet_length(value) > 0

-- name: set_timers
-- Insert or replace.
insert into {schema}.timer (processor, key, name, partition, due, event_time, type, data, correlation, causation)
select w.processor, w.key, w.name, w.partition, w.due, w.event_time <> 0, w.type, w.data, w.correlation, w.causation
from unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::int8[], $6::int8[], $7::text[], $8::bytea[], $9::text[], $10::text[])
    w(processor, key, name, partition, due, event_time, type, data, correlation, causation)
on conflict (processor, key, name) do update set partition = excluded.partition, due = excluded.due, event_time = excluded.event_time,
    type = excluded.type, data = excluded.data, correlation = excluded.correlation, causation = excluded.causation

-- name: cancel_timers, fresh
-- Forget timers; say which there were.
delete from {schema}.timer t using unnest($1::text[], $2::text[], $3::text[]) w(processor, key, name)
where t.processor = w.processor and t.key = w.key and t.name = w.name returning t.processor, t.key, t.name

-- name: due_timers, locking
-- What is due, earliest first.
select processor, key, name, partition, due, event_time, type, data, correlation, causation
from {schema}.timer t where processor = $1::text and partition = $2::int8 and due <= $3::int8 order by due limit $4::int8

-- name: next_timers
-- The earliest due time per partition: two steps in the index for each, past everything between them.
with recursive place(partition) as (
    select min(t.partition) from {schema}.timer t where t.processor = $1::text
    union all
    select (select min(t.partition) from {schema}.timer t where t.processor = $1::text and t.partition > p.partition)
    from place p where p.partition is not null
)
select p.partition, (select min(t.due) from {schema}.timer t where t.processor = $1::text and t.partition = p.partition)
from place p where p.partition is not null

-- name: page_timers
-- The timers of a partition behind one, by due time, key and name.
select processor, key, name, partition, due, event_time, type, data, correlation, causation
from {schema}.timer t where processor = $1::text and partition = $2::int8 and due >= $3::int8
and (due, key, name) > ($3::int8, $4::text, $5::text) order by due, key, name limit $6::int8

-- name: timers_of_key
-- The timers of a key.
select processor, key, name, partition, due, event_time, type, data, correlation, causation
from {schema}.timer t where processor = $1::text and key = $2::text order by name

-- name: count_timers
-- How many wait.
select count(*) from {schema}.timer

-- name: count_timers_of
-- How many wait in a partition.
select count(*) from {schema}.timer where processor = $1::text and partition = $2::int8

-- name: load_documents, locking
-- Documents by key.
select d.key, d.value from unnest($2::text[]) w(key)
cross join lateral (select * from {schema}.document d where d.view = $1::int8 and d.key = w.key offset 0) d

-- name: save_documents
-- Insert or replace documents.
insert into {schema}.document (view, key, value) select $1::int8, * from unnest($2::text[], $3::bytea[])
on conflict (view, key) do update set value = excluded.value

-- name: add_documents
-- Documents that this transaction found absent; one that is there by now is a conflict.
insert into {schema}.document (view, key, value) select $1::int8, * from unnest($2::text[], $3::bytea[])

-- name: expect_no_documents
-- Fails by a division if one of the documents is there.
select 1 / (not exists (
    select from unnest($1::text[], $2::text[]) w(view, key)
    cross join lateral (select from {schema}.document d where d.view = w.view::int8 and d.key = w.key offset 0) d))::int

-- name: delete_documents, fresh
-- Remove documents.
delete from {schema}.document d using unnest($2::text[]) w(key) where d.view = $1::int8 and d.key = w.key

-- name: add_lookups
-- Look-up rows.
insert into {schema}.lookup (view, field, value, sort, key) select $1::int8, * from unnest($2::text[], $3::text[], $4::text[], $5::text[])
on conflict do nothing

-- name: remove_lookups, fresh
-- Look-up rows.
delete from {schema}.lookup l using unnest($2::text[], $3::text[], $4::text[], $5::text[]) w(field, value, sort, key)
where l.view = $1::int8 and l.field = w.field and l.value = w.value and l.sort = w.sort and l.key = w.key

-- name: page_documents
-- A look-up, newest first, below a cursor.
select l.sort, l.key, d.value from {schema}.lookup l join {schema}.document d on d.view = l.view and d.key = l.key
where l.view = $1::int8 and l.field = $2::text and l.value = $3::text and (l.sort, l.key) < ($4::text, $5::text)
order by l.sort desc, l.key desc limit $6::int8

-- name: first_documents
-- A look-up, newest first.
select l.sort, l.key, d.value from {schema}.lookup l join {schema}.document d on d.view = l.view and d.key = l.key
where l.view = $1::int8 and l.field = $2::text and l.value = $3::text order by l.sort desc, l.key desc limit $4::int8

-- name: count_documents
-- How many documents a build has.
select count(*) from {schema}.document where view = $1::int8

-- name: lock_views
-- Who changes what builds there are does so alone.
select pg_advisory_xact_lock($1::int8)

-- name: views
-- Every build of every view.
select id, name, version, state from {schema}.view order by name, id

-- name: add_view
-- A new build.
insert into {schema}.view (name, version, state) values ($1::text, $2::int8, $3::text) returning id

-- name: mark_view
-- A build's new state.
update {schema}.view set state = $1::text where id = $2::int8

-- name: drop_view
-- A build that nobody reads.
delete from {schema}.view where id = $1::int8

-- name: drop_documents
-- The documents of a build.
delete from {schema}.document where view = $1::int8

-- name: drop_lookups
-- The look-ups of a build.
delete from {schema}.lookup where view = $1::int8

-- name: find_answers
-- First answers.
select a.scope, a.key, a.fingerprint, a.value, a.at
from unnest($1::text[], $2::text[]) w(scope, key)
cross join lateral (select * from {schema}.answer a where a.scope = w.scope and a.key = w.key offset 0) a

-- name: add_answers
-- First answers; one that is there by now is a conflict.
insert into {schema}.answer (scope, key, fingerprint, value, at) select * from unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::int8[])

-- name: expire_answers
-- Forget old answers.
with gone as (delete from {schema}.answer where at < $1::int8 returning 1) select count(*) from gone

-- name: find_seen
-- Foreign records that were handled.
select s.source, s.id from unnest($2::text[], $3::text[]) w(source, id)
cross join lateral (select * from {schema}.seen s where s.processor = $1::text and s.source = w.source and s.id = w.id offset 0) s

-- name: add_seen
-- Foreign records; one that is there by now is a conflict.
insert into {schema}.seen (processor, source, id, at) select distinct $1::text, w.source, w.id, $4::int8
from unnest($2::text[], $3::text[]) w(source, id)

-- name: expire_seen
-- Forget old foreign records.
with gone as (delete from {schema}.seen where at < $1::int8 returning 1) select count(*) from gone

-- name: open_epoch
-- The journal's next epoch.
update {schema}.meta set value = $1::text where name = 'epoch'

-- name: epoch
-- The epoch of this journal.
select value from {schema}.meta where name = 'epoch'
