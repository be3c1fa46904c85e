-- name: topics
-- Every topic with the range of each partition.
select t.name, t.identity, t.retention_s, p.partition, p.first, p.next
from topic t join partition p on p.topic = t.id order by t.name, p.partition

-- name: topic_ids
-- The number of each topic.
select name, id from topic

-- name: add_topic
-- A new topic with an identity of its own.
insert into topic (name, identity, retention_s) values (?, lower(hex(randomblob(8))), ?) on conflict (name) do nothing returning id

-- name: add_partition
-- An empty partition.
insert into partition (topic, partition, first, next) values (?, ?, 0, 0)

-- name: ends
-- The end of every partition.
select t.name, p.partition, p.next, p.id from partition p join topic t on t.id = p.topic

-- name: take_offsets
-- Reserve offsets at the end of a partition.
update partition set next = next + ? where topic = ? and partition = ? returning next, id

-- name: publish
-- One record.
insert into record (place, key, value, at, position) values (?, ?, ?, ?, ?)

-- name: read
-- The next records of a partition.
select place & 0xFFFFFFFFFF, key, value, at, position, null from record where place >= ?1 | ?2 and place <= ?1 | 0xFFFFFFFFFF order by place limit ?3

-- name: appended_at
-- When a record was appended.
select at from record where place = ?

-- name: published
-- How far a source has published.
select position, rows from relay where source = ? and epoch = ?

-- name: move_relay
-- The relay's position, stored with the records it stands for.
insert into relay (source, epoch, position, rows) values (?, ?, ?, ?)
on conflict (source, epoch) do update set position = excluded.position, rows = excluded.rows

-- name: sources
-- Every source that has published here.
select source, epoch, position, rows from relay order by source, epoch

-- name: expired
-- The first offset that is young enough, per partition of a topic with retention.
select p.id, p.first, coalesce((
    select r.place & 0xFFFFFFFFFF from record r
    where r.place between p.id << 40 and p.id << 40 | 0xFFFFFFFFFF and r.at >= ?1 - t.retention_s * 1000000 order by r.place limit 1), p.next)
from partition p join topic t on t.id = p.topic where t.retention_s is not null

-- name: expire
-- Remove old records of a partition.
delete from record where place >= ?1 << 40 and place < ?1 << 40 | ?2

-- name: move_first
-- The new start of a partition.
update partition set first = ? where id = ?

-- name: count_records
-- How many records a partition really holds.
select t.name, p.partition, (select count(*) from record r where r.place between p.id << 40 and p.id << 40 | 0xFFFFFFFFFF)
from partition p join topic t on t.id = p.topic

-- name: copy_range
-- The rows that would be copied: the last position looked at, how many are for the log, their bytes, the largest, how many in all.
select max(position), count(topic), sum(length(value)), max(length(value)), count(*)
from (select position, topic, value from store.journal where position > ? order by position limit ?)

-- name: copy
-- Journal rows become records, in order, at the ends of their partitions.
insert into record (place, key, value, at, position)
select p.id << 40 | (p.next + row_number() over (partition by p.id order by j.position) - 1), j.key, j.value, ?3, j.position
from store.journal j join main.topic t on t.name = j.topic join main.partition p on p.topic = t.id and p.partition = j.partition
where j.position > ?1 and j.position <= ?2

-- name: copy_ends
-- The partitions grow by what was copied.
update partition set next = next + grown.rows
from (select topic, partition, count(*) rows from store.journal where position > ?1 and position <= ?2 and topic is not null group by 1, 2) grown
join topic t on t.name = grown.topic
where partition.topic = t.id and partition.partition = grown.partition
