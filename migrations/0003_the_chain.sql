-- The history as evidence: each run is a link of its organization's chain, and so is whatever is done to the
-- history itself. `docs/audit-log.md` specifies what a digest covers.

-- The name under which the chain began, which the links have. A renamed organization keeps it.
alter table organizations add column origin text;
update organizations set origin = name;

-- Null for runs from before there was a chain.
alter table runs add column digest blob check (length(digest) = 32);

-- The highest version of a key after the run: the state as of a time is that of the versions up to a number.
-- Of older runs, what came before the first version that a later event tells of.
alter table runs add column last_version integer;
drop trigger runs_no_update;
update runs set last_version = ifnull(
    (select a.version - 1 from audit a
     where a.event_id > runs.last_event_id and a.event in ('baseline', 'added', 'restored', 'changed')
     order by a.event_id limit 1),
    (select ifnull(max(version), 0) from key_versions));
create trigger runs_no_update before update on runs
begin select raise(abort, 'the run history is append-only'); end;

-- The digests of the parts of a run that have something in them: what the link needs of a part, also when its
-- items are pruned.
create table parts (
    run_id integer not null references runs,
    part   text not null check (part in ('events', 'used', 'notices')),
    items  integer not null check (items > 0),
    digest blob not null check (length(digest) = 32),
    primary key (run_id, part)
) strict, without rowid;

-- What somebody did to the history itself.
create table acts (
    act_id       integer primary key,
    organization integer not null references organizations,
    -- The organization's newest run then (0: none): the act is a link behind it.
    after_run_id integer not null,
    kind         text not null check (kind in ('adopted', 'accepted', 'pruned', 'forgotten')),
    acted_at     integer not null,
    -- The system user.
    actor        text not null,
    detail       text not null check (json_valid(detail)),
    digest       blob not null check (length(digest) = 32)
) strict;

-- Names and addresses of people enter digests under a random salt of each person: an organization's owners of
-- one id have the same. Null: nothing personal is known, or it was erased for good.
alter table owners add column salt blob check (length(salt) = 16);
drop trigger owners_no_update;
create temporary table salts as
    select organization, ifnull(id, '') as id, randomblob(16) as salt from owners group by 1, 2;
update owners set salt = s.salt from temp.salts s
where s.organization = owners.organization and s.id = ifnull(owners.id, '');
drop table temp.salts;
create trigger owners_no_update before update on owners
begin select raise(abort, 'states of owners are append-only'); end;

-- Whose a personal value in a notice is: the third member of each change is a row of `owners`, that of the key
-- after the run.
drop trigger notices_no_update;
update notices set changes = (
    select json_group_array(json_array(j.value ->> 0, j.value ->> 1, (
        select v.owner from keys k join key_versions v on v.key = k.key
        where k.organization = r.organization and k.key_id = j.value ->> 0
          and v.version <= r.last_version
        order by v.version desc limit 1)))
    from json_each(notices.changes) j, runs r where r.run_id = notices.run_id)
where field = 'owner_name' or field like 'owner.%';
create trigger notices_no_update before update on notices
begin select raise(abort, 'notices are append-only'); end;

-- The seals of values that were erased: what the digests have of them.
create table erased (
    act_id integer not null references acts,
    -- Where it was: an event (and which side of it), a notice (and whose value in it), or a keyframe's key.
    place  text not null check (place in ('event', 'notice', 'keyframe')),
    id     integer not null,
    key_id text,
    side   text check (side in ('old', 'new')),
    field  text not null,
    seal   blob not null check (length(seal) = 32)
) strict;

create index erased_by_place on erased (place, id);

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

drop view run_history;
create view run_history as
select
    r.run_id as run_id,
    o.name as organization,
    r.trigger as trigger,
    strftime('%Y-%m-%dT%H:%M:%SZ', r.started_at, 'unixepoch') as started_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', r.finished_at, 'unixepoch') as finished_at,
    r.status as status,
    r.keys_seen as keys_seen,
    r.baseline as baseline,
    r.added as added,
    r.restored as restored,
    r.removed as removed,
    r.used as used,
    r.changed as changed,
    r.unconfirmed as unconfirmed,
    r.skipped as skipped,
    r.pages as pages,
    r.requests as requests,
    r.retries as retries,
    r.notice as notice,
    r.error as error,
    nullif(lower(hex(r.digest)), '') as digest,
    -- What a held or refused run found missing: a JSON array of key ids.
    h.missing as missing,
    strftime('%Y-%m-%dT%H:%M:%SZ', r.deferred_until, 'unixepoch') as deferred_until
from runs r
join organizations o on o.organization = r.organization
left join withheld h on h.run_id = r.run_id;

-- Each organization's chain, and the random id of the database it is in.
create view chains as
select o.name as organization, o.origin as origin, i.id as database_id
from organizations o, installation i;

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

create view notice_history as
select
    n.notice_id as notice_id,
    n.run_id as run_id,
    o.name as organization,
    n.kind as kind,
    n.field as field,
    -- A JSON array of [key_id, value], the value as in `audit_history`.
    n.changes as changes
from notices n
join runs r on r.run_id = n.run_id
join organizations o on o.organization = r.organization;

-- For those who verify: whose salt, in hexadecimal, the personal values of an event are sealed with. The old
-- owner of a key that changed is that of the version before.
create view audit_salts as
select
    a.event_id as event_id,
    nullif(lower(hex(case a.event
        when 'removed' then w.salt
        when 'changed' then (
            select p.salt from key_versions b join owners p on p.owner = b.owner
            where b.version = (select max(version) from key_versions
                where key = v.key and version < v.version))
    end)), '') as old_salt,
    nullif(lower(hex(case when a.event <> 'removed' then w.salt end)), '') as new_salt
from audit a
join key_versions v on v.version = a.version
left join owners w on w.owner = v.owner
where a.event <> 'used' and (a.event <> 'changed' or a.field = 'owner_name' or a.field like 'owner.%');

create view notice_salts as
select n.notice_id as notice_id, j.value ->> 0 as key_id, nullif(lower(hex(w.salt)), '') as salt
from notices n, json_each(n.changes) j
join owners w on w.owner = j.value ->> 2;

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
