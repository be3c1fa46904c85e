-- name: load_states
-- Rows of a kind by key.
select key, value from state where kind = ? and key in (select value from json_each(?))

-- name: save_states
-- Insert or replace rows.
insert into state (kind, key, value) values (?, ?, ?) on conflict (kind, key) do update set value = excluded.value

-- name: delete_states
-- Remove rows.
delete from state where kind = ? and key = ?

-- name: page_states
-- Rows of a kind in key order.
select key, value from state where kind = ? and key > ? order by key limit ?

-- name: streams
-- Events of streams above a version each.
select j.stream, j.version, j.value from json_each(?1) w cross join journal j
where j.stream = w.key and j.version > w.value and j.version <= ?2 order by j.stream, j.version

-- name: load_snapshots
-- The last snapshot of streams.
select stream, value from snapshot where stream in (select value from json_each(?))

-- name: save_snapshots
-- Replace snapshots.
insert into snapshot (stream, value) values (?, ?) on conflict (stream) do update set value = excluded.value

-- name: last_position
-- The last position ever given, kept even when the journal is empty.
select coalesce((select seq from sqlite_sequence where name = 'journal'), 0)

-- name: append_journal
-- One fact.
insert into journal (position, topic, partition, key, stream, version, value) values (?, ?, ?, ?, ?, ?, ?)

-- name: tail_journal
-- The next rows above a position.
select position, topic, partition, key, value from journal where position > ? order by position limit ?

-- name: count_journal
-- Rows there, and rows that retention removed.
select (select count(*) from journal), (select value from meta where name = 'journal_removed')

-- name: count_published
-- Rows that are to be published, up to a position.
select count(*) from journal where topic is not null and position <= ?

-- name: trim_reach
-- The last of the next rows.
select max(position) from (select position from journal where position > ? and position <= ? order by position limit ?)

-- name: trim_journal
-- Remove rows for the log that belong to no stream.
delete from journal where position > ? and position <= ? and stream is null and topic is not null

-- name: count_removed
-- Retention removed rows.
update meta set value = value + ? where name = 'journal_removed'

-- name: noted
-- What retention has noted.
select value from meta where name = 'retention'

-- name: note
-- What retention notes.
insert into meta (name, value) values ('retention', ?) on conflict (name) do update set value = excluded.value

-- name: load_positions
-- Every position of a processor.
select token, body from position where processor = ?

-- name: load_position
-- One position.
select token, body from position where processor = ? and topic = ? and partition = ?

-- name: save_position
-- A position with its counters.
insert into position (processor, topic, partition, token, body) values (?, ?, ?, ?, ?)
on conflict (processor, topic, partition) do update set token = excluded.token, body = excluded.body

-- name: forget_positions
-- A processor starts anew.
delete from position where processor = ?

-- name: forget_held
-- A processor starts anew.
delete from held where processor = ?

-- name: forget_timers
-- A processor starts anew.
delete from timer where processor = ?

-- name: forget_seen
-- A processor starts anew.
delete from seen where processor = ?

-- name: processors
-- Everyone who reads.
select distinct processor from position order by 1

-- name: load_held
-- Held messages of a processor in the order of the log.
select processor, topic, partition, offset, key, state, value, reason, detail, attempts, due, deadline, first_at,
    fingerprint, last_at, history, replaces
from held where processor = ? order by topic, partition, offset

-- name: load_held_keys
-- Held messages of some keys in the order of the log; looked up key by key, however many others are held.
select h.processor, h.topic, h.partition, h.offset, h.key, h.state, h.value, h.reason, h.detail, h.attempts, h.due, h.deadline, h.first_at,
    h.fingerprint, h.last_at, h.history, h.replaces
from json_each(?2) w cross join held h indexed by held_key where h.processor = ?1 and h.key = w.value order by h.topic, h.partition, h.offset

-- name: blocked
-- The first held message of every key. Nothing waits behind what is dead and has no key. Answered by an index alone.
select topic, partition, key, state, due, min(offset) from held
where processor = ? and (key <> '' or state <> 'dead') group by key, topic, partition

-- name: save_held
-- Insert or replace.
insert or replace into held (processor, topic, partition, offset, key, state, value, reason, detail, attempts, due, deadline, first_at,
    fingerprint, last_at, history, replaces)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: remove_held
-- A message that waits no more.
delete from held where processor = ? and topic = ? and partition = ? and offset = ?

-- name: list_held
-- Held messages of every processor, oldest first.
select processor, topic, partition, offset, key, state, value, reason, detail, attempts, due, deadline, first_at,
    fingerprint, last_at, history, replaces
from held where ?1 is null or state = ?1 order by first_at, processor, topic, partition, offset limit ?2

-- name: count_held
-- Waiting and dead per partition.
select processor, topic, partition, sum(state <> 'dead'), sum(state = 'dead') from held group by 1, 2, 3

-- name: page_letters
-- Dead letters behind a mark, oldest first.
select processor, topic, partition, offset, key, state, value, reason, detail, attempts, due, deadline, first_at,
    fingerprint, last_at, history, replaces
from held where state = 'dead' and (first_at, processor, topic, partition, offset) > (?8, ?9, ?10, ?11, ?12)
    and (?1 is null or processor = ?1) and (?2 is null or topic = ?2) and (?3 is null or key = ?3) and (?4 is null or reason = ?4)
    and (?5 is null or fingerprint = ?5) and (?6 is null or last_at >= ?6) and (?7 is null or last_at <= ?7)
order by first_at, processor, topic, partition, offset limit ?13

-- name: take_letters
-- What is held at places.
select h.processor, h.topic, h.partition, h.offset, h.key, h.state, h.value, h.reason, h.detail, h.attempts, h.due, h.deadline,
    h.first_at, h.fingerprint, h.last_at, h.history, h.replaces
from json_each(?) w cross join held h
where h.processor = json_extract(w.value, '$[0]') and h.topic = json_extract(w.value, '$[1]')
    and h.partition = json_extract(w.value, '$[2]') and h.offset = json_extract(w.value, '$[3]')

-- name: group_letters
-- Dead letters that failed in the same way; SQLite takes the other columns from the row with the least time.
select fingerprint, processor, reason, count(*), sum(length(value)), min(first_at), topic, partition, offset
from held where state = 'dead'
    and (?1 is null or processor = ?1) and (?2 is null or topic = ?2) and (?3 is null or key = ?3) and (?4 is null or reason = ?4)
    and (?5 is null or fingerprint = ?5) and (?6 is null or last_at >= ?6) and (?7 is null or last_at <= ?7)
group by fingerprint, processor, reason order by count(*) desc, fingerprint, processor, reason

-- name: last_of_groups
-- When the last of such letters failed.
select fingerprint, processor, reason, max(last_at)
from held where state = 'dead'
    and (?1 is null or processor = ?1) and (?2 is null or topic = ?2) and (?3 is null or key = ?3) and (?4 is null or reason = ?4)
    and (?5 is null or fingerprint = ?5) and (?6 is null or last_at >= ?6) and (?7 is null or last_at <= ?7)
group by fingerprint, processor, reason

-- name: count_behind
-- Messages that wait behind one of their key.
select count(*) from held where processor = ?1 and key = ?4 and topic = ?2 and partition = ?3 and offset > ?5 and ?4 <> ''

-- name: close_letter
-- A dead letter is closed; those of one place are numbered.
insert into closed (processor, topic, partition, offset, number, key, value, reason, detail, attempts, first_at, fingerprint, last_at,
    history, replaces, how, at, who, note, successor)
select ?1, ?2, ?3, ?4, coalesce(max(number), 0) + 1, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19
from closed where processor = ?1 and topic = ?2 and partition = ?3 and offset = ?4

-- name: closed_letters
-- Closed letters behind a mark, in the order of closing.
select processor, topic, partition, offset, number, key, value, reason, detail, attempts, first_at, fingerprint, last_at, history, replaces,
    how, at, who, note, successor
from closed where (at, processor, topic, partition, offset, number) > (?8, ?9, ?10, ?11, ?12, ?13)
    and (?1 is null or processor = ?1) and (?2 is null or topic = ?2) and (?3 is null or key = ?3) and (?4 is null or reason = ?4)
    and (?5 is null or fingerprint = ?5) and (?6 is null or last_at >= ?6) and (?7 is null or last_at <= ?7)
order by at, processor, topic, partition, offset, number limit ?14

-- name: forget_closed
-- Letters that were closed long ago.
delete from closed where at < ? and processor <> 'relay'

-- name: empty_closed
-- The ledger counts rows that the log could not take; their bytes go.
update closed set value = x'', detail = '' where at < ? and processor = 'relay' and length(value) > 0

-- name: set_timers
-- Insert or replace.
insert or replace into timer (processor, key, name, partition, due, event_time, type, data, correlation, causation)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: cancel_timers
-- Forget a timer.
delete from timer where processor = ? and key = ? and name = ?

-- name: due_timers
-- What is due, earliest first.
select processor, key, name, partition, due, event_time, type, data, correlation, causation
from timer where processor = ? and partition = ? and due <= ? order by due, key, name limit ?

-- name: next_timers
-- The earliest due time per partition: two steps in the index for each, past everything between them.
with recursive place(partition) as (
    select min(partition) from timer where processor = ?1
    union all
    select (select min(t.partition) from timer t where t.processor = ?1 and t.partition > place.partition)
    from place where place.partition is not null
)
select partition, (select min(t.due) from timer t where t.processor = ?1 and t.partition = place.partition)
from place where partition is not null

-- name: page_timers
-- The timers of a partition behind one, by due time, key and name.
select processor, key, name, partition, due, event_time, type, data, correlation, causation
from timer where processor = ? and partition = ? and (due, key, name) > (?, ?, ?) order by due, key, name limit ?

-- name: timers_of_key
-- The timers of a key.
select processor, key, name, partition, due, event_time, type, data, correlation, causation
from timer where processor = ? and key = ? order by name

-- name: count_timers
-- How many wait.
select count(*) from timer

-- name: count_timers_of
-- How many wait in a partition.
select count(*) from timer where processor = ? and partition = ?

-- name: load_documents
-- Documents by key.
select key, value from document where view = ? and key in (select value from json_each(?))

-- name: save_documents
-- Insert or replace documents.
insert into document (view, key, value) values (?, ?, ?) on conflict (view, key) do update set value = excluded.value

-- name: delete_documents
-- Remove documents.
delete from document where view = ? and key = ?

-- name: add_lookups
-- Look-up rows.
insert or ignore into lookup (view, field, value, sort, key) values (?, ?, ?, ?, ?)

-- name: remove_lookups
-- Look-up rows.
delete from lookup where view = ? and field = ? and value = ? and sort = ? and key = ?

-- name: page_documents
-- A look-up, newest first, below a cursor.
select l.sort, l.key, d.value from lookup l join document d on d.view = l.view and d.key = l.key
where l.view = ?1 and l.field = ?2 and l.value = ?3 and (l.sort, l.key) < (?4, ?5) order by l.sort desc, l.key desc limit ?6

-- name: first_documents
-- A look-up, newest first.
select l.sort, l.key, d.value from lookup l join document d on d.view = l.view and d.key = l.key
where l.view = ?1 and l.field = ?2 and l.value = ?3 order by l.sort desc, l.key desc limit ?4

-- name: count_documents
-- How many documents a build has.
select count(*) from document where view = ?

-- name: views
-- Every build of every view.
select id, name, version, state from view order by name, id

-- name: add_view
-- A new build.
insert into view (name, version, state) values (?, ?, ?) returning id

-- name: mark_view
-- A build's new state.
update view set state = ? where id = ?

-- name: drop_view
-- A build that nobody reads.
delete from view where id = ?

-- name: drop_documents
-- The documents of a build.
delete from document where view = ?

-- name: drop_lookups
-- The look-ups of a build.
delete from lookup where view = ?

-- name: find_answers
-- First answers of a scope.
select key, fingerprint, value, at from answer where scope = ? and key in (select value from json_each(?))

-- name: add_answer
-- The first answer to a key.
insert into answer (scope, key, fingerprint, value, at) values (?, ?, ?, ?, ?)

-- name: expire_answers
-- Forget old answers.
delete from answer where at < ?

-- name: find_seen
-- Foreign records that were handled.
select s.source, s.id from json_each(?2) w cross join seen s
where s.processor = ?1 and s.source = json_extract(w.value, '$[0]') and s.id = json_extract(w.value, '$[1]')

-- name: add_seen
-- A foreign record.
insert or ignore into seen (processor, source, id, at) values (?, ?, ?, ?)

-- name: expire_seen
-- Forget old foreign records.
delete from seen where at < ?

-- name: open_epoch
-- The journal's next epoch.
update meta set value = ? where name = 'epoch'

-- name: epoch
-- The epoch of this journal.
select value from meta where name = 'epoch'
