-- What a daemon needs to know of its earlier lives.

-- One row. The id is random: it tells this database from others, and spreads the due times of a fleet.
create table installation (
    one integer primary key check (one = 1),
    id  text not null check (id <> '')
) strict;

insert into installation (one, id) values (1, lower(hex(randomblob(16))));

create trigger installation_no_update before update on installation
begin select raise(abort, 'the id of an installation never changes'); end;
create trigger installation_no_delete before delete on installation
begin select raise(abort, 'the id of an installation never changes'); end;

-- Until when the API asked to be left alone, by a failed run.
alter table runs add column deferred_until integer;
-- Who ended a run before its end: somebody who stopped the process, or what killed it.
alter table runs add column cut_short text check (cut_short in ('stopped', 'killed'));

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
    null as digest,
    -- What a held or refused run found missing: a JSON array of key ids.
    h.missing as missing,
    strftime('%Y-%m-%dT%H:%M:%SZ', r.deferred_until, 'unixepoch') as deferred_until
from runs r
join organizations o on o.organization = r.organization
left join withheld h on h.run_id = r.run_id;
