-- What a retention policy leaves of the history that it throws away.

-- The inventory of an organization, keys that were gone included, as it was after the newest run of which
-- anything is pruned: the replay of the past begins there.
create table keyframes (
    key           integer primary key references keys,
    -- The state of the key then. No foreign key: each version that is thrown away would search this table
    -- from end to end.
    version       integer not null,
    last_used_at  integer,
    own_key       integer not null check (own_key in (0, 1)),
    first_seen_at integer not null,
    -- Null: not known, from before there was a chain.
    last_seen_at  integer,
    removed_at    integer,
    -- 1: missing then, and not believed gone.
    unconfirmed   integer not null check (unconfirmed in (0, 1))
) strict;

-- States of owners that no key has any more, and the keys of a person.
create index key_versions_by_owner on key_versions (owner);

create trigger keyframes_no_update before update on keyframes
begin select raise(abort, 'the history at the horizon is kept as it was'); end;
create trigger keyframes_no_delete before delete on keyframes
begin select raise(abort, 'the history at the horizon is kept as it was'); end;
create trigger keyframes_append before insert on keyframes
when exists (select 1 from keyframes where key = new.key)
begin select raise(abort, 'the history at the horizon is kept as it was'); end;

create view keyframe_keys as
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
    strftime('%Y-%m-%dT%H:%M:%SZ', f.last_used_at, 'unixepoch') as last_used_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', v.expires_at, 'unixepoch') as expires_at,
    json_patch(ifnull(v.other, '{}'), ifnull(w.other, '{}')) as other,
    f.own_key as own_key,
    strftime('%Y-%m-%dT%H:%M:%SZ', f.first_seen_at, 'unixepoch') as first_seen_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', f.last_seen_at, 'unixepoch') as last_seen_at,
    strftime('%Y-%m-%dT%H:%M:%SZ', f.removed_at, 'unixepoch') as removed_at,
    f.unconfirmed as unconfirmed
from keyframes f
join keys k on k.key = f.key
join organizations o on o.organization = k.organization
join key_versions v on v.version = f.version
left join owners w on w.owner = v.owner;

-- For those who verify: whose salt the personal values of a key in a keyframe are sealed with.
create view keyframe_salts as
select
    o.name as organization,
    k.key_id as key_id,
    nullif(lower(hex(w.salt)), '') as salt
from keyframes f
join keys k on k.key = f.key
join organizations o on o.organization = k.organization
join key_versions v on v.version = f.version
join owners w on w.owner = v.owner;
