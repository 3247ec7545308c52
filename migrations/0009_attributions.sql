-- Who did it: entries of the provider's own audit log, attached to the events that they explain.

-- Who acted, each state once. Never changed, but by forgetting.
create table actors (
    actor        integer primary key,
    organization integer not null references organizations,
    -- `user` or `service_account`, where one is known (then it is theirs that `id` is); else what the API says.
    type         text,
    id           text,
    email        text,
    -- The key that they acted with, if it was not a session.
    key_id       text,
    -- As in `owners`: a person has the same salt there and here.
    salt         blob check (length(salt) = 16)
) strict;

-- The states of one actor: null ids count as one.
create index actors_by_id on actors (organization, ifnull(id, ''));

create table attributions (
    attribution_id integer primary key,
    -- The run that attached it: that of the event, or a later one.
    run_id         integer not null references runs,
    -- No foreign key: it goes with its own run, when the event may be pruned already.
    event_id       integer not null,
    -- The id of the entry.
    log_id         text not null,
    action         text not null
                   check (action in ('api_key.created', 'api_key.updated', 'api_key.deleted')),
    acted_at       integer not null,
    actor          integer not null references actors,
    ip_address     text,
    -- What the key was given, a JSON array; null where the entry does not say.
    scopes         text check (json_valid(scopes)),
    -- Serves the newest one of an event, too.
    unique (event_id, log_id)
) strict;

-- What a run attached, and whether an entry is attached already.
create index attributions_by_run on attributions (run_id);
create index attributions_by_log on attributions (log_id);
-- The states of actors that nothing refers to any more, and what a person did.
create index attributions_by_actor on attributions (actor);

create trigger actors_no_update before update on actors
begin select raise(abort, 'states of actors are append-only'); end;
create trigger actors_no_delete before delete on actors
begin select raise(abort, 'states of actors are append-only'); end;
create trigger actors_append before insert on actors
when new.actor <= (select max(actor) from actors)
begin select raise(abort, 'states of actors are append-only'); end;

create trigger attributions_no_update before update on attributions
begin select raise(abort, 'attributions are append-only'); end;
create trigger attributions_no_delete before delete on attributions
begin select raise(abort, 'attributions are append-only'); end;
create trigger attributions_append before insert on attributions
when new.attribution_id <= (select max(attribution_id) from attributions)
    or exists (select 1 from attributions where event_id = new.event_id and log_id = new.log_id)
begin select raise(abort, 'attributions are append-only'); end;

-- What the API does not give to an organization's credential: a row while it is so, so that it is said once.
create table unavailable (
    organization integer not null references organizations,
    -- `audit_logs`.
    what         text not null,
    -- The run that said so.
    since_run    integer not null,
    primary key (organization, what)
) strict, without rowid;

create view attribution_history as
select
    t.attribution_id as attribution_id,
    t.run_id as run_id,
    o.name as organization,
    t.event_id as event_id,
    t.log_id as log_id,
    t.action as action,
    strftime('%Y-%m-%dT%H:%M:%SZ', t.acted_at, 'unixepoch') as acted_at,
    p.type as actor_type,
    p.id as actor_id,
    p.email as actor_email,
    p.key_id as actor_key_id,
    t.ip_address as actor_ip_address,
    t.scopes as actor_scopes
from attributions t
join runs r on r.run_id = t.run_id
join organizations o on o.organization = r.organization
join actors p on p.actor = t.actor;

-- For those who verify: what the e-mail and the IP address of an actor are sealed with.
create view attribution_salts as
select t.attribution_id as attribution_id, nullif(lower(hex(p.salt)), '') as salt
from attributions t
join actors p on p.actor = t.actor;

-- With the newest attribution of each event, where there is one: a look-up by an index for each row.
drop view audit_history;
create view audit_history as
select
    a.event_id as event_id,
    a.run_id as run_id,
    strftime('%Y-%m-%dT%H:%M:%SZ', r.finished_at, 'unixepoch') as observed_at,
    case when a.event <> 'baseline'
        then strftime('%Y-%m-%dT%H:%M:%SZ', r.previous_started_at, 'unixepoch')
    end as previous_observed_at,
    o.name as organization,
    v.scope as scope,
    k.key_id as key_id,
    v.name as key_name,
    a.event as event,
    case when a.event = 'used' then 'last_used_at' else a.field end as field,
    case
        when a.event = 'changed' then a.old_value
        when a.event = 'used' then case typeof(a.old_value)
            when 'integer' then strftime('%Y-%m-%dT%H:%M:%SZ', a.old_value, 'unixepoch')
            else a.old_value
        end
        when a.event = 'removed' then json_object(
            'key_id', k.key_id, 'name', v.name, 'redacted_value', v.redacted_value,
            'project_id', v.project_id, 'project_name', v.project_name,
            'owner_type', w.type, 'owner_id', w.id, 'owner_name', w.name, 'owner_role', w.role,
            'created_at', strftime('%Y-%m-%dT%H:%M:%SZ', v.created_at, 'unixepoch'),
            'last_used_at', strftime('%Y-%m-%dT%H:%M:%SZ', a.old_value, 'unixepoch'),
            'expires_at', strftime('%Y-%m-%dT%H:%M:%SZ', v.expires_at, 'unixepoch'),
            'other', json_patch(ifnull(v.other, '{}'), ifnull(w.other, '{}')))
    end as old_value,
    case
        when a.event = 'changed' then a.new_value
        when a.event = 'used' then case typeof(a.new_value)
            when 'integer' then strftime('%Y-%m-%dT%H:%M:%SZ', a.new_value, 'unixepoch')
            else a.new_value
        end
        when a.event <> 'removed' then json_object(
            'key_id', k.key_id, 'name', v.name, 'redacted_value', v.redacted_value,
            'project_id', v.project_id, 'project_name', v.project_name,
            'owner_type', w.type, 'owner_id', w.id, 'owner_name', w.name, 'owner_role', w.role,
            'created_at', strftime('%Y-%m-%dT%H:%M:%SZ', v.created_at, 'unixepoch'),
            'last_used_at', strftime('%Y-%m-%dT%H:%M:%SZ', a.new_value, 'unixepoch'),
            'expires_at', strftime('%Y-%m-%dT%H:%M:%SZ', v.expires_at, 'unixepoch'),
            'other', json_patch(ifnull(v.other, '{}'), ifnull(w.other, '{}')))
    end as new_value,
    p.type as actor_type,
    p.id as actor_id,
    p.email as actor_email,
    p.key_id as actor_key_id,
    t.ip_address as actor_ip_address,
    strftime('%Y-%m-%dT%H:%M:%SZ', t.acted_at, 'unixepoch') as acted_at,
    t.scopes as actor_scopes
from audit a
join runs r on r.run_id = a.run_id
join key_versions v on v.version = a.version
join keys k on k.key = v.key
join organizations o on o.organization = k.organization
left join owners w on w.owner = v.owner
left join attributions t on t.attribution_id = (
    select n.attribution_id from attributions n where n.event_id = a.event_id
    order by n.acted_at desc, n.attribution_id desc limit 1)
left join actors p on p.actor = t.actor;
