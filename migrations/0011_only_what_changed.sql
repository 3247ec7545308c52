-- Large organizations: a run judges the keys of which the answer may be another, and is written as it is worked out.

-- From when on the key may break other rules though it is as it was. Null: not by the passing of time.
alter table keys add column due_at integer;
-- By what the keys were judged last, as a digest: where it is another, all of them are judged again.
alter table organizations add column judged_by text;

-- The events of a run are hashed while they are written, and refer to its row: so that the row comes first, and its
-- digest last, once, within the same transaction.
drop trigger runs_no_update;
create trigger runs_no_update before update on runs
when old.digest is not null or new.digest is null or old.run_id < (select max(run_id) from runs)
    or (new.run_id, new.organization, new.token, new.trigger, new.started_at, new.finished_at, new.status,
        new.previous_started_at, new.keys_seen, new.keys_after, new.baseline, new.added, new.restored, new.removed,
        new.used, new.changed, new.unconfirmed, new.skipped, new.pages, new.requests, new.retries,
        new.last_event_id, new.notice, new.error, new.deferred_until, new.cut_short, new.last_version)
    is not (old.run_id, old.organization, old.token, old.trigger, old.started_at, old.finished_at, old.status,
        old.previous_started_at, old.keys_seen, old.keys_after, old.baseline, old.added, old.restored, old.removed,
        old.used, old.changed, old.unconfirmed, old.skipped, old.pages, old.requests, old.retries,
        old.last_event_id, old.notice, old.error, old.deferred_until, old.cut_short, old.last_version)
begin select raise(abort, 'the run history is append-only'); end;
