-- Projects, each of whose lists of keys is a source of its own.

create table projects (
    organization    integer not null references organizations,
    project_id      text not null,
    name            text,
    -- 1: its keys were listed completely once. What is found then was there before, what is found later is new.
    was_listed      integer not null check (was_listed in (0, 1)),
    -- 1: it was not among the projects listed before. Whatever it holds came after it.
    appeared        integer not null check (appeared in (0, 1)),
    -- The last `ok` run that listed its keys. Null: the last one of all, so that an unchanged project costs no
    -- write; or none yet.
    last_listed_run integer references runs,
    primary key (organization, project_id)
) strict, without rowid;

-- How the lists of projects send each field, as the last `ok` run found it.
create table project_fields (
    organization integer not null references organizations,
    field        text not null,
    sent         text not null check (sent in ('always', 'sometimes', 'stopped')),
    primary key (organization, field)
) strict, without rowid;

-- 1: the projects were listed completely once; one that comes later is seen to appear.
alter table organizations add column projects_listed integer not null default 0
    check (projects_listed in (0, 1));
-- Why they may not be listed, which is said once.
alter table organizations add column projects_problem text;

-- What only the lists of projects tell stands in `other`, as in the history.
drop view current_keys;
drop view all_keys;
create view all_keys as
select
    o.name as organization,
    v.scope as scope,
    k.key_id as key_id,
    v.name as name,
    v.redacted_value as redacted_value,
    v.project_id as project_id,
    v.project_name as project_name,
    w.type as owner_type,
    w.id as owner_id,
    w.name as owner_name,
    w.role as owner_role,
    strftime('%Y-%m-%dT%H:%M:%SZ', v.created_at, 'unixepoch') as created_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', k.last_used_at, 'unixepoch') as last_used_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', v.expires_at, 'unixepoch') as expires_at,
    json_patch(ifnull(v.other, '{}'), ifnull(w.other, '{}')) as other,
    k.removed_run is null and k.key is o.own_key as own_key,
    strftime('%Y-%m-%dT%H:%M:%SZ', f.finished_at, 'unixepoch') as first_seen_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', l.finished_at, 'unixepoch') as last_seen_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', r.finished_at, 'unixepoch') as removed_at,
    -- `active` or `inactive`; null where no project's list told of the key.
    v.other ->> 'owner_project_access' as owner_project_access,
    -- 1: the key's project is archived; null where it has none.
    case when v.project_id is not null then
        (v.other ->> 'project_archived_at' is not null or v.other ->> 'project_status' is 'archived')
    end as project_archived,
    v.other ->> 'project_archived_at' as project_archived_at
from keys k
join organizations o on o.organization = k.organization
join key_versions v on v.version = k.version
left join owners w on w.owner = v.owner
join runs f on f.run_id = k.first_seen_run
join runs l on l.run_id = ifnull(k.last_seen_run, (
    select max(run_id) from runs where organization = k.organization and status = 'ok'))
left join runs r on r.run_id = k.removed_run;

create view current_keys as
select
    organization, scope, key_id, name, redacted_value, project_id, project_name, owner_type, owner_id,
    owner_name, owner_role, created_at, last_used_at, expires_at, other, own_key, first_seen_at,
    last_seen_at, owner_project_access, project_archived, project_archived_at
from all_keys
where removed_at is null;
