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
delete from record where (topic, partition, offset) = (select topic, partition, offset from record order by 1, 2, 3 limit 1)

-- name: lose_records
delete from record where topic = (select id from topic where name = ?)

-- name: lose_partitions
delete from partition where topic = (select id from topic where name = ?)

-- name: lose_topic
delete from topic where name = ?

-- name: repeat_records
insert into record (topic, partition, offset, key, value, at, position)
select r.topic, r.partition, r.offset + p.next, r.key, r.value, r.at, r.position
from record r join partition p on p.topic = r.topic and p.partition = r.partition
where r.topic = (select id from topic where name = ?)

-- name: extend_partitions
update partition set next = 2 * next where topic = (select id from topic where name = ?)
