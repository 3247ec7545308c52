//! A history at times of our choosing: the real sync, in this process, with a clock that we set.

use std::sync::Arc;

use keydrift::clock::{Clock, ManualClock, Timestamp};
use keydrift::config::{self, Environment, Inputs};
use keydrift::run::{Status, Trigger};
use keydrift::sim::{Fault, Matcher, Organization};
use keydrift::stop::Stop;
use keydrift::store::{SharedWriter, Writer};
use keydrift::sync::{self, Request, Ticks};
use serde_json::{Map, Value, json};

use super::{World, oracle, sql};

pub struct History {
    pub world: World,
}

impl History {
    pub fn of(organization: Organization) -> Self {
        Self { world: World::of(organization) }
    }

    /// Four keys with names and times that never change from one test run to the next: an admin key in
    /// use, one of a service account that was never used, a project's key, and the credential's own.
    pub fn small() -> Self {
        let mut organization = Organization::generate(7, 0);
        let tail = organization.credential()[organization.credential().len() - 4..].to_owned();
        for item in [
            small_key("key_main", "Main Admin Key", "sk-admin-****Main", 1_735_689_600, "ada"),
            small_key("key_deploy", "ci deploy", "sk-admin-****Dply", 1_743_465_600, "ci"),
            small_key("key_billing", "billing export", "sk-proj-****Bill", 1_751_328_000, "ci"),
            small_key("key_own", "keydrift", &format!("sk-admin-****{tail}"), 1_759_276_800, "ada"),
        ] {
            organization.add_raw(&item);
        }
        organization.set_field("key_main", "last_used_at", 1_788_000_000);
        Self::of(organization)
    }

    /// The small organization through one run of each kind and one event of each kind.
    pub fn eventful() -> Self {
        let history = Self::small();
        let organization = history.world.organization();
        assert_eq!(history.sync("2026-10-01T08:00:00Z"), Status::Ok);
        organization.with(|organization| {
            organization.touch_at("key_main", "2026-10-02T07:30:00Z");
            organization.rename("key_deploy", "ci deploy (eu)");
            organization.add_raw(&small_key(
                "key_quick",
                "quick test",
                "sk-admin-****Quck",
                1_790_900_000,
                "ada",
            ));
        });
        assert_eq!(history.sync("2026-10-02T08:00:00Z"), Status::Ok);
        organization.with(|organization| organization.remove("key_quick"));
        assert_eq!(history.sync("2026-10-03T08:00:00Z"), Status::Ok);
        organization.fault(Matcher::any(), Fault::status(503).with_header("retry-after-ms", "0"));
        assert_eq!(history.sync("2026-10-04T08:00:00Z"), Status::Failed);
        organization.clear_faults();
        organization.fault(Matcher::list(), Fault::DropItem(0));
        organization.fault(Matcher::retrieve(), Fault::status(403));
        assert_eq!(history.sync("2026-10-05T08:00:00Z"), Status::Held);
        organization.clear_faults();
        organization.with(|organization| {
            organization.restore("key_quick");
            organization.set_field("key_deploy", "expires_at", 1_798_761_600);
            organization.set_field("key_deploy", "permissions", json!(["b", "a"]));
            organization.set_field_everywhere("tier", &json!("standard"));
        });
        assert_eq!(history.sync("2026-10-06T08:00:00Z"), Status::Ok);
        organization.with(|organization| {
            organization.touch_at("key_quick", "2026-10-07T07:00:00Z");
            organization.remove_field("key_deploy", "permissions");
            organization.remove("key_billing");
        });
        assert_eq!(history.sync("2026-10-07T08:00:00Z"), Status::Ok);
        oracle::check_consistent(&history.world.database());
        history
    }

    /// One sync at `at`, and how it ended. A single unconfirmed key holds it.
    #[track_caller]
    pub fn sync(&self, at: &str) -> Status {
        let now: Timestamp = at.parse().expect("a time");
        let organization = self.world.organization();
        organization.with(|organization| organization.set_now(now.unix()));
        let environment: Environment = [
            ("OPENAI_ADMIN_KEY", organization.credential()),
            ("OPENAI_BASE_URL", self.world.server.base_url()),
            ("KEYDRIFT__API__MAX_ATTEMPTS", "1".to_owned()),
            ("KEYDRIFT__REMOVAL__GUARD_KEYS", "0".to_owned()),
            ("KEYDRIFT__REMOVAL__GUARD_PERCENT", "0".to_owned()),
        ]
        .into_iter()
        .collect();
        let database = self.world.database();
        let inputs =
            Inputs { config_path: None, database: Some(&database), environment: &environment };
        let settings = config::load_apart(&inputs).expect("a valid configuration");
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(now));
        let organization = &settings.organizations[0];
        let credential = settings.credential_source(&organization.name).expect("a credential");
        let request = Request {
            organization,
            credential: &|| credential.read(),
            api: &settings.api,
            removal: settings.removal,
            rules: &settings.findings,
            trigger: Trigger::Schedule,
            accept: false,
            ticks: Ticks::default(),
            stop: &Stop::never(),
            progress: &|_| {},
        };
        sql::block_on(async {
            let wait = settings.database.lock_timeout;
            let writer = Writer::open(&database, wait, |_| {}).await.expect("a database");
            let writer = SharedWriter::from(writer);
            let report = sync::run(&writer, &clock, &request).await.expect("a report");
            writer.close().await.expect("a closed database");
            report.status
        })
    }
}

/// Uses of a key at a time of one's own.
trait TouchAt {
    fn touch_at(&mut self, id: &str, at: &str);
}

impl TouchAt for Organization {
    fn touch_at(&mut self, id: &str, at: &str) {
        let at: Timestamp = at.parse().expect("a time");
        assert!(self.set_field(id, "last_used_at", at.unix()), "{id}");
    }
}

fn small_key(
    id: &str,
    name: &str,
    redacted: &str,
    created_at: i64,
    owner: &str,
) -> Map<String, Value> {
    let owner = match owner {
        "ada" => json!({"type": "user", "id": "user-ada", "name": "Ada Lovelace", "role": "owner"}),
        _ => json!({"type": "service_account", "id": "svc_ci", "name": "ci", "role": "member"}),
    };
    let item = json!({
        "id": id, "name": name, "redacted_value": redacted, "created_at": created_at,
        "last_used_at": null, "expires_at": null, "owner": owner,
    });
    item.as_object().expect("an object").clone()
}
