-- Keys that break a rule, from the run that found it to the run that found it mended. They are worked out of the
-- inventory and are no part of the chain.

create table finding_log (
    finding_id   integer primary key,
    organization integer not null references organizations,
    -- Null: the organization as a whole.
    key          integer references keys,
    -- No list: rules come and go with versions of the program.
    rule         text not null check (rule <> ''),
    severity     text not null check (severity in ('low', 'medium', 'high')),
    -- When it became true.
    since        integer not null,
    detail       text not null,
    -- What the rule has to know later: the last use before it went back.
    memory       integer,
    opened_run   integer not null references runs,
    closed_run   integer references runs check (closed_run > opened_run)
) strict;

-- Those of now, which every run asks for. One of a kind: a second one would be news.
create unique index finding_log_open on finding_log (organization, ifnull(key, 0), rule) where closed_run is null;

-- A finding is closed once. Nothing else of it ever changes.
create trigger finding_log_no_update before update on finding_log
when old.closed_run is not null or new.closed_run is null
    or (new.finding_id, new.organization, new.rule, new.severity, new.since, new.detail, new.opened_run)
        <> (old.finding_id, old.organization, old.rule, old.severity, old.since, old.detail, old.opened_run)
    or new.key is not old.key or new.memory is not old.memory
begin select raise(abort, 'findings are append-only'); end;
create trigger finding_log_no_delete before delete on finding_log
begin select raise(abort, 'findings are append-only'); end;
create trigger finding_log_append before insert on finding_log
when new.finding_id <= (select max(finding_id) from finding_log)
    or exists (select 1 from finding_log where organization = new.organization
        and ifnull(key, 0) = ifnull(new.key, 0) and rule = new.rule and closed_run is null)
begin select raise(abort, 'findings are append-only'); end;

create view finding_history as
select
    f.finding_id as finding_id,
    o.name as organization,
    k.key_id as key_id,
    f.rule as rule,
    f.severity as severity,
    strftime('%Y-%m-%dT%H:%M:%SZ', f.since, 'unixepoch') as since,
    f.detail as detail,
    f.opened_run as opened_run_id,
    strftime('%Y-%m-%dT%H:%M:%SZ', b.finished_at, 'unixepoch') as opened_at,
    f.closed_run as closed_run_id,
    strftime('%Y-%m-%dT%H:%M:%SZ', e.finished_at, 'unixepoch') as closed_at,
    v.name as key_name,
    v.scope as scope
from finding_log f
join organizations o on o.organization = f.organization
join runs b on b.run_id = f.opened_run
left join runs e on e.run_id = f.closed_run
left join keys k on k.key = f.key
left join key_versions v on v.version = k.version;

create view findings as
select
    organization, key_id, rule, severity, since, detail, opened_run_id, opened_at, key_name, scope
from finding_history
where closed_run_id is null;

-- A row for each day with a run, organization and severity, also where nothing happened.
create view findings_daily as
with days as (
    select strftime('%Y-%m-%d', finished_at, 'unixepoch') as day, organization from runs group by 1, 2
), severities (severity) as (
    values ('low'), ('medium'), ('high')
), moves as (
    select strftime('%Y-%m-%d', r.finished_at, 'unixepoch') as day, f.organization, f.severity,
        1 as opened, 0 as closed
    from finding_log f join runs r on r.run_id = f.opened_run
    union all
    select strftime('%Y-%m-%d', r.finished_at, 'unixepoch'), f.organization, f.severity, 0, 1
    from finding_log f join runs r on r.run_id = f.closed_run
), sums as (
    select day, organization, severity, sum(opened) as opened, sum(closed) as closed
    from moves group by 1, 2, 3
)
select
    d.day as day,
    o.name as organization,
    s.severity as severity,
    ifnull(m.opened, 0) as opened,
    ifnull(m.closed, 0) as closed,
    -- At the end of the day.
    sum(ifnull(m.opened, 0) - ifnull(m.closed, 0))
        over (partition by d.organization, s.severity order by d.day) as open
from days d
cross join severities s
join organizations o on o.organization = d.organization
left join sums m on m.day = d.day and m.organization = d.organization and m.severity = s.severity;
