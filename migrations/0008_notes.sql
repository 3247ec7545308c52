-- What people noted of events and keys: acts of the kind `noted`, and so links of the chain.

-- The notes beside an event, and those of a key: every listing asks.
create index acts_noted_event on acts (detail ->> 'event_id') where kind = 'noted';
create index acts_noted_key on acts (detail ->> 'key_id') where kind = 'noted';

create view note_history as
select
    a.act_id as note_id,
    o.name as organization,
    -- One of both.
    a.detail ->> 'event_id' as event_id,
    a.detail ->> 'key_id' as key_id,
    strftime('%Y-%m-%dT%H:%M:%SZ', a.acted_at, 'unixepoch') as noted_at,
    a.actor as author,
    a.detail ->> 'text' as text,
    -- The organization's newest run then: a note on a key explains what was observed up to it.
    a.after_run_id as after_run_id
from acts a
join organizations o on o.organization = a.organization
where a.kind = 'noted';
