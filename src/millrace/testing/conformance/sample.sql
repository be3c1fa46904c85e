-- What the plain handler of the sample writes with SQL of its own; plain enough for every engine.

-- name: make_filed
create table if not exists filed (name text, n integer)

-- name: file
insert into filed values (?, ?)

-- name: filed
select name, n from filed order by name

-- name: misspelt
insert into field values (1, 2)
