-- What happened to a key once (`woke_up`, `use_went_back`) and is not over yet, whether or not it is listed: an
-- exception hides it for a time, and the key itself does not show it any more. Rows come and go.

create table happenings (
    organization integer not null references organizations,
    key          integer not null references keys,
    rule         text not null check (rule <> ''),
    -- As in `finding_log`.
    since        integer not null,
    detail       text not null,
    memory       integer,
    -- The run that noticed: from its end on it is found for a while.
    noticed_run  integer not null references runs,
    primary key (organization, key, rule)
) strict, without rowid;

insert into happenings (organization, key, rule, since, detail, memory, noticed_run)
select organization, key, rule, since, detail, memory, opened_run from finding_log
where closed_run is null and key is not null and rule in ('woke_up', 'use_went_back');
