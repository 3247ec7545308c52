-- The inventory, the audit history, and the runs that made them.
--
-- What is said once in `audit` must stay said: events refer to versions of keys and owners that never
-- change, and the views compose them. The inventory (`keys`) alone is rewritten.
--
-- The triggers below guard against accidents, not against somebody who owns the file.

create table organizations (
    organization integer primary key,
    name         text not null unique check (name <> ''),
    -- The `openai-organization` header of the last `ok` run that came with one.
    header       text,
    -- The key of the credential in use, if it is in the list. No foreign key: rows of both tables come
    -- and go in one statement each.
    own_key      integer
) strict;

create table runs (
    run_id              integer primary key,
    organization        integer not null references organizations,
    -- Names this run in the note beside the lock file, so that a run that was killed after its
    -- transaction is not taken for one that was interrupted.
    token               integer not null unique,
    trigger             text not null check (trigger in ('schedule', 'manual', 'start', 'missed', 'retry')),
    started_at          integer not null,
    finished_at         integer not null check (finished_at >= started_at),
    status              text not null check (status in ('ok', 'failed', 'held')),
    -- When the last `ok` run before this one began: an observation window opens there.
    previous_started_at integer,
    keys_seen           integer not null,
    -- Keys in the inventory after this run.
    keys_after          integer not null,
    baseline            integer not null,
    added               integer not null,
    restored            integer not null,
    removed             integer not null,
    used                integer not null,
    changed             integer not null,
    unconfirmed         integer not null,
    skipped             integer not null,
    pages               integer not null,
    requests            integer not null,
    retries             integer not null,
    -- The highest event_id after this run: events of a span of time are a span of event ids.
    last_event_id       integer not null,
    notice              text,
    error               text
) strict;

-- The last `ok` run of an organization.
create index runs_by_status on runs (organization, status);
-- The last run at or before a time.
create index runs_by_finish on runs (finished_at);

-- What a held or refused run found missing, for `sync --accept`.
create table withheld (
    run_id   integer primary key references runs,
    -- A JSON array of key ids.
    missing  text not null check (json_valid(missing)),
    -- 1 if the answers seemed to come from another organization, with this header.
    stranger integer not null check (stranger in (0, 1)),
    header   text
) strict;

-- Owners as they were seen, each state once. Never changed.
create table owners (
    owner        integer primary key,
    organization integer not null references organizations,
    type         text,
    id           text,
    name         text,
    role         text,
    -- Values under `owner.` without a column, a JSON object by path; null for none.
    other        text check (json_valid(other))
) strict;

-- The states of one owner, when a key is stored: null ids count as one.
create index owners_by_id on owners (organization, ifnull(id, ''));

create table keys (
    key            integer primary key,
    organization   integer not null references organizations,
    key_id         text not null check (key_id <> ''),
    -- The state as of the last run that saw the key. No foreign key: versions refer to keys, and of two
    -- tables that refer to each other, each insert into one searches the other from end to end.
    version        integer not null,
    last_used_at   integer,
    first_seen_run integer not null references runs,
    -- Null: the last `ok` run of the organization. So an unchanged key costs no write.
    last_seen_run  integer references runs,
    -- Null while the key is there.
    removed_run    integer references runs,
    unique (organization, key_id)
) strict;

-- The few keys that the last run did not see and does not believe gone.
create index keys_unconfirmed on keys (organization)
where last_seen_run is not null and removed_run is null;

-- Keys as they were seen, `last_used_at` apart, each state once. Never changed.
create table key_versions (
    version        integer primary key,
    key            integer not null references keys,
    scope          text not null check (scope in ('admin', 'project')),
    name           text,
    redacted_value text,
    project_id     text,
    project_name   text,
    owner          integer references owners,
    created_at     integer,
    expires_at     integer,
    -- Values without a column and outside `owner.`, a JSON object by path; null for none.
    other          text check (json_valid(other))
) strict;

-- The story of one key: its versions, and by them its events.
create index key_versions_by_key on key_versions (key);

create table audit (
    event_id  integer primary key,
    run_id    integer not null references runs,
    -- The key after the event; before it, for `removed`.
    version   integer not null references key_versions,
    event     text not null
              check (event in ('baseline', 'added', 'removed', 'restored', 'used', 'changed')),
    -- The field of a `changed` event.
    field     text check ((field is not null) = (event = 'changed')),
    -- `used`: Unix seconds, or text where the API sent something else. `changed`: text, as the view shows it. `removed`: `last_used_at` of the key.
    old_value any,
    -- The same; `baseline`, `added` and `restored`: `last_used_at` of the key.
    new_value any
) strict;

create index audit_by_version on audit (version);
-- Everything but the mass of `used` events is rare, and is what people look for.
create index audit_by_event on audit (event) where event <> 'used';

-- What changed in the inventory without being drift.
create table notices (
    notice_id integer primary key,
    run_id    integer not null references runs,
    kind      text not null,
    field     text not null,
    -- A JSON array of [key_id, new value].
    changes   text not null check (json_valid(changes))
) strict;

create index notices_by_run on notices (run_id);

-- How the API sends each field, as the last `ok` run found it.
create table fields (
    organization integer not null references organizations,
    field        text not null,
    sent         text not null check (sent in ('always', 'sometimes', 'stopped')),
    primary key (organization, field)
) strict, without rowid;

-- Append-only. `insert or replace` deletes without firing delete triggers, so that the inserts are
-- watched too: an id must be higher than all before, and nothing else that is unique may be taken.
create trigger audit_no_update before update on audit
begin select raise(abort, 'the audit history is append-only'); end;
create trigger audit_no_delete before delete on audit
begin select raise(abort, 'the audit history is append-only'); end;
create trigger audit_append before insert on audit
when new.event_id <= (select max(event_id) from audit)
begin select raise(abort, 'the audit history is append-only'); end;

create trigger runs_no_update before update on runs
begin select raise(abort, 'the run history is append-only'); end;
create trigger runs_no_delete before delete on runs
begin select raise(abort, 'the run history is append-only'); end;
create trigger runs_append before insert on runs
when new.run_id <= (select max(run_id) from runs)
    or exists (select 1 from runs where token = new.token)
begin select raise(abort, 'the run history is append-only'); end;

create trigger key_versions_no_update before update on key_versions
begin select raise(abort, 'versions of keys are append-only'); end;
create trigger key_versions_no_delete before delete on key_versions
begin select raise(abort, 'versions of keys are append-only'); end;
create trigger key_versions_append before insert on key_versions
when new.version <= (select max(version) from key_versions)
begin select raise(abort, 'versions of keys are append-only'); end;

create trigger owners_no_update before update on owners
begin select raise(abort, 'states of owners are append-only'); end;
create trigger owners_no_delete before delete on owners
begin select raise(abort, 'states of owners are append-only'); end;
create trigger owners_append before insert on owners
when new.owner <= (select max(owner) from owners)
begin select raise(abort, 'states of owners are append-only'); end;

create trigger notices_no_update before update on notices
begin select raise(abort, 'notices are append-only'); end;
create trigger notices_no_delete before delete on notices
begin select raise(abort, 'notices are append-only'); end;
create trigger notices_append before insert on notices
when new.notice_id <= (select max(notice_id) from notices)
begin select raise(abort, 'notices are append-only'); end;

create trigger withheld_no_update before update on withheld
begin select raise(abort, 'the run history is append-only'); end;
create trigger withheld_no_delete before delete on withheld
begin select raise(abort, 'the run history is append-only'); end;

-- Their rows change, but the views lose events without them.
create trigger organizations_no_delete before delete on organizations
begin select raise(abort, 'the history refers to organizations'); end;
create trigger keys_no_delete before delete on keys
begin select raise(abort, 'the history refers to keys'); end;

-- The views are the public interface. Times are RFC 3339, UTC.

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
    strftime('%Y-%m-%dT%H:%M:%SZ', r.finished_at, 'unixepoch') as removed_at
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
    last_seen_at
from all_keys
where removed_at is null;

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
    end as new_value
from audit a
join runs r on r.run_id = a.run_id
join key_versions v on v.version = a.version
join keys k on k.key = v.key
join organizations o on o.organization = k.organization
left join owners w on w.owner = v.owner;

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
    null as digest,
    -- What a held or refused run found missing: a JSON array of key ids.
    h.missing as missing
from runs r
join organizations o on o.organization = r.organization
left join withheld h on h.run_id = r.run_id;

create view key_drift_daily as
select
    d.day as day,
    o.name as organization,
    d.added as added,
    d.removed as removed,
    d.used as used,
    d.changed as changed,
    l.keys_after as keys
from (
    select
        strftime('%Y-%m-%d', finished_at, 'unixepoch') as day,
        organization,
        sum(added + restored) as added,
        sum(removed) as removed,
        sum(used) as used,
        sum(changed) as changed,
        max(run_id) as last_run
    from runs
    group by 1, 2
) d
join organizations o on o.organization = d.organization
join runs l on l.run_id = d.last_run;
