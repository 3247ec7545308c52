//! The real sync in this process, which is a lot faster than through the binary.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keydrift::clock::{Clock, SystemClock};
use keydrift::config::{self, Environment, Inputs, Settings};
use keydrift::run::Trigger;
use keydrift::stop::Stop;
use keydrift::store::{Reader, SharedWriter, Writer};
use keydrift::sync::{self, Report};

use super::World;

pub struct Here {
    database: PathBuf,
    pub settings: Settings,
    runtime: tokio::runtime::Runtime,
    /// Opened once, as a daemon would.
    writer: Option<SharedWriter>,
}

impl Here {
    /// Nothing is tried twice.
    pub fn of(world: &World) -> Self {
        let environment = Environment::from_iter([
            ("OPENAI_ADMIN_KEY", world.organization().credential()),
            ("OPENAI_BASE_URL", world.server.base_url()),
            ("KEYDRIFT__API__MAX_ATTEMPTS", "1".to_owned()),
        ]);
        let database = world.database();
        let settings = config::load(&Inputs {
            config_path: None,
            database: Some(&database),
            environment: &environment,
        });
        Self {
            settings: settings.expect("settings"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            database,
            writer: None,
        }
    }

    pub fn sync(&mut self) -> Report {
        let [organization] = self.settings.organizations.as_slice() else { panic!("one") };
        let credential = self.settings.credential_source(&organization.name).expect("a source");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let request = sync::Request {
            organization,
            credential: &|| credential.read(),
            api: &self.settings.api,
            removal: self.settings.removal,
            rules: &self.settings.findings,
            trigger: Trigger::Manual,
            accept: false,
            ticks: sync::Ticks::default(),
            progress: &|_| {},
            stop: &Stop::never(),
        };
        self.runtime.block_on(async {
            let writer = match &mut self.writer {
                Some(writer) => writer,
                none => {
                    let opened = Writer::open(&self.database, Duration::ZERO, |_| {}).await;
                    none.insert(opened.expect("one").into())
                }
            };
            sync::run(writer, &clock, &request).await.expect("a report")
        })
    }

    /// What `keydrift verify` asks of the file and of each history in it.
    #[track_caller]
    pub fn verify(&self) {
        let path: &Path = &self.database;
        self.runtime.block_on(async {
            let mut reader = Reader::open(path).await.expect("a database");
            assert_eq!(reader.find_damage().await.expect("an answer"), None);
            for verdict in reader.verify(&|_, _| None).await.expect("verdicts") {
                assert_eq!(verdict.problem, None, "{verdict:?}");
            }
            reader.close().await.expect("closed");
        });
    }
}
