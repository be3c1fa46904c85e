-- What befalls the files of the embedded engine behind its back; run by `sqlite_kit` on connections of its own.

-- name: empty_journal
delete from journal

-- name: count_removed
update meta set value = value + ? where name = 'journal_removed'

-- name: lose_journal
delete from journal where position = (select min(position) from journal)

-- name: lose_dead_letters
delete from held where (processor, topic, partition, offset) = (
    select processor, topic, partition, offset from held where state = 'dead' order by 1, 2, 3, 4 limit 1)

-- name: lose_log
delete from record where place = (select min(place) from record)

-- name: lose_records
delete from record where place >> 40 in (select p.id from partition p join topic t on t.id = p.topic where t.name = ?)

-- name: lose_partitions
delete from partition where topic = (select id from topic where name = ?)

-- name: lose_topic
delete from topic where name = ?

-- name: repeat_records
insert into record (place, key, value, at, position)
select r.place + p.next, r.key, r.value, r.at, r.position
from record r join partition p on p.id = r.place >> 40 join topic t on t.id = p.topic where t.name = ?

-- name: extend_partitions
update partition set next = 2 * next where topic = (select id from topic where name = ?)

-- name: forget_snapshots
delete from snapshot

-- name: spoil_stream
update journal set value = x'00' where stream = ? and version = 1
