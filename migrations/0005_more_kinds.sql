-- More kinds of acts, parts and erased values. SQLite cannot change a check: the tables are made anew, with all
-- that is in them.

drop view act_history;
drop view run_parts;
drop view erased_values;

create temporary table kept_erased as select * from erased;
create temporary table kept_acts as select * from acts;
create temporary table kept_parts as select * from parts;

-- `acts` last: what refers to a table goes before it.
drop table erased;
drop table parts;
drop table acts;

-- The digests of the parts of a run that have something in them: what the link needs of a part, also when its
-- items are pruned.
create table parts (
    run_id integer not null references runs,
    part   text not null check (part in ('events', 'used', 'notices', 'attributions')),
    items  integer not null check (items > 0),
    digest blob not null check (length(digest) = 32),
    primary key (run_id, part)
) strict, without rowid;

-- What somebody did to the history itself, or said of it.
create table acts (
    act_id       integer primary key,
    organization integer not null references organizations,
    -- The organization's newest run then (0: none): the act is a link behind it.
    after_run_id integer not null,
    kind         text not null
                 check (kind in ('adopted', 'accepted', 'pruned', 'forgotten', 'renamed', 'noted')),
    acted_at     integer not null,
    -- The system user.
    actor        text not null,
    detail       text not null check (json_valid(detail)),
    digest       blob not null check (length(digest) = 32)
) strict;

-- The seals of values that were erased: what the digests have of them.
create table erased (
    act_id integer not null references acts,
    -- Where it was: an event (and which side of it), a notice (and whose value in it), a keyframe's key, or an
    -- attribution.
    place  text not null check (place in ('event', 'notice', 'keyframe', 'attribution')),
    id     integer not null,
    key_id text,
    side   text check (side in ('old', 'new')),
    field  text not null,
    seal   blob not null check (length(seal) = 32)
) strict;

create index erased_by_place on erased (place, id);

insert into acts (act_id, organization, after_run_id, kind, acted_at, actor, detail, digest)
select act_id, organization, after_run_id, kind, acted_at, actor, detail, digest
from temp.kept_acts order by act_id;
insert into parts (run_id, part, items, digest) select run_id, part, items, digest from temp.kept_parts;
insert into erased (act_id, place, id, key_id, side, field, seal)
select act_id, place, id, key_id, side, field, seal from temp.kept_erased order by rowid;

drop table temp.kept_erased;
drop table temp.kept_acts;
drop table temp.kept_parts;

create trigger parts_no_update before update on parts
begin select raise(abort, 'the run history is append-only'); end;
create trigger parts_no_delete before delete on parts
begin select raise(abort, 'the run history is append-only'); end;
create trigger parts_append before insert on parts
when exists (select 1 from parts where run_id = new.run_id and part = new.part)
begin select raise(abort, 'the run history is append-only'); end;

create trigger acts_no_update before update on acts
begin select raise(abort, 'acts are append-only'); end;
create trigger acts_no_delete before delete on acts
begin select raise(abort, 'acts are append-only'); end;
create trigger acts_append before insert on acts
when new.act_id <= (select max(act_id) from acts)
begin select raise(abort, 'acts are append-only'); end;

create trigger erased_no_update before update on erased
begin select raise(abort, 'what was erased stays erased'); end;
create trigger erased_no_delete before delete on erased
begin select raise(abort, 'what was erased stays erased'); end;

create view run_parts as
select
    p.run_id as run_id,
    o.name as organization,
    p.part as part,
    p.items as items,
    lower(hex(p.digest)) as digest
from parts p
join runs r on r.run_id = p.run_id
join organizations o on o.organization = r.organization;

create view act_history as
select
    a.act_id as act_id,
    o.name as organization,
    o.origin as origin,
    a.after_run_id as after_run_id,
    a.kind as kind,
    strftime('%Y-%m-%dT%H:%M:%SZ', a.acted_at, 'unixepoch') as acted_at,
    a.actor as actor,
    a.detail as detail,
    lower(hex(a.digest)) as digest
from acts a
join organizations o on o.organization = a.organization;

create view erased_values as
select
    act_id as act_id,
    place as place,
    id as id,
    key_id as key_id,
    side as side,
    field as field,
    lower(hex(seal)) as seal
from erased;
