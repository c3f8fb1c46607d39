//! `wiremill serve`: everything from the settings to the exit code, in one order up and one order down.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker::{Broker, BrokerOptions};
use env::Env;
use model::{ErrorKind, Formats};
use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    banner, data_dir, dialects,
    listeners::{self, Acceptor, Bound, ListenerName, tls::Tls},
    logging::Logging,
    ready,
    settings::{Listen, Settings},
    supervisor::{Class, Supervisor},
    test_clock, workers,
};

/// Why the process ends.
enum End {
    /// Somebody asked: exit 0.
    Asked(&'static str),
    /// The disk refused a write: nothing can be promised any more.
    DiskFailed(String),
    /// A part of the process is gone.
    Fault(String),
}

/// Runs until asked to stop. `reread` gives the settings anew on SIGHUP.
pub fn run(settings: Settings, logging: Logging, reread: impl Fn() -> Result<Settings, String>) -> ExitCode {
    raise_handle_limit();
    let runtime = match runtime(settings.worker_threads) {
        Ok(runtime) => runtime,
        Err(e) => return refuse(&format!("no runtime: {e}")),
    };
    let outcome = runtime.block_on(async {
        // Before anybody can know that the process is there: a signal that finds no handler ends it on the spot.
        let signals = match Signals::new() {
            Ok(signals) => signals,
            Err(e) => return refuse(&format!("no signal handlers: {e}")),
        };
        match start(&settings).await {
            Ok(running) => running.until_the_end(&settings, signals, &logging, reread).await,
            Err(why) => refuse(&why),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// A runtime with so many threads for connections, 0 for one per core. They have a name of their own; threads for what
/// blocks come after them.
fn runtime(worker_threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let workers = match worker_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let started = AtomicUsize::new(0);
    let name = move || match started.fetch_add(1, Ordering::Relaxed) < workers {
        true => "wm-net".to_owned(),
        false => "wm-blocking".to_owned(),
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name_fn(name)
        .enable_all()
        .build()
}

fn refuse(why: &str) -> ExitCode {
    error!("{why}");
    ExitCode::FAILURE
}

/// A process that accepts connections.
struct Running {
    broker: Broker,
    supervisor: Supervisor,
    shutdown: watch::Sender<bool>,
    tls: TlsByName,
    ready: Option<ready::Ready>,
    _data_dir: DataDir,
}

/// The data directory; an ephemeral run's own is removed at the end.
struct DataDir {
    path: PathBuf,
    temporary: bool,
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.temporary
            && let Err(e) = std::fs::remove_dir_all(&self.path)
        {
            warn!(path = %self.path.display(), error = %e, "the temporary folder stays behind");
        }
    }
}

async fn start(settings: &Settings) -> Result<Running, String> {
    // Ahead of all that takes time: whoever looks for the file must not find one until this run is ready.
    settings.ready_file.as_deref().map_or(Ok(()), ready::remove_stale)?;
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    let supervisor = Supervisor::default();
    let tls = load_tls(settings)?;
    let data_dir = folder(settings);
    if settings.ephemeral && !data_dir.temporary {
        data_dir::lend(&data_dir.path)?;
    }
    let (env, test_clock) = environment(settings, &supervisor);
    let broker = open_broker(settings, &data_dir.path, env).await?;
    let world =
        World { settings, data_dir: &data_dir.path, broker: &broker, supervisor: &supervisor, test_clock };
    match serve(&world, &tls).await {
        Ok((shutdown, ready)) => {
            Ok(Running { broker, supervisor, shutdown, tls, ready, _data_dir: data_dir })
        }
        Err(why) => {
            close(&broker, Duration::from_millis(settings.shutdown_deadline_ms)).await;
            Err(why)
        }
    }
}

/// Everything between an open broker and clients.
async fn serve(world: &World<'_>, tls: &TlsByName) -> Result<Opened, String> {
    if !world.settings.ephemeral {
        data_dir::keep(world.data_dir)?;
    }
    dialects::declare_queues(world.broker, world.settings).await?;
    open_listeners(world, tls).await
}

/// What ends the sessions, and the ready file.
type Opened = (watch::Sender<bool>, Option<ready::Ready>);

type TlsByName = BTreeMap<ListenerName, Arc<Tls>>;

/// The machine, with what the settings make of it.
fn environment(settings: &Settings, supervisor: &Supervisor) -> (Env, Option<Arc<dyn admin::TestClock>>) {
    let options =
        env::RealOptions { sync_delay_ms: settings.test_sync_delay_ms, ..env::RealOptions::default() };
    let env = workers::on_runtime(env::real_with(options), Handle::current(), supervisor.clone());
    if !settings.ephemeral {
        return (env, None);
    }
    let (env, clock) = test_clock::on_test_clock(env);
    (env, Some(clock))
}

/// What listeners are opened for.
struct World<'a> {
    settings: &'a Settings,
    data_dir: &'a Path,
    broker: &'a Broker,
    supervisor: &'a Supervisor,
    test_clock: Option<Arc<dyn admin::TestClock>>,
}

/// Binds, tells where, accepts.
async fn open_listeners(world: &World<'_>, tls: &TlsByName) -> Result<Opened, String> {
    let World { settings, data_dir, broker, supervisor, test_clock } = world;
    let bound = listeners::bind(settings, broker.users().any()).await?;
    let dialects = dialects::build(&dialects::Shared {
        broker: (*broker).clone(),
        settings,
        bound: &bound,
        data_dir,
        supervisor,
        test_clock: test_clock.clone(),
    })?;
    mention_unbuilt(settings);
    banner::show(settings, data_dir, &bound);
    // Sockets listen since they were bound: whoever reads the ready file can connect.
    let ready = match &settings.ready_file {
        None => None,
        Some(path) => {
            let written = ready::write(path, &bound);
            Some(written.map_err(|e| format!("the ready file {} cannot be written: {e}", path.display()))?)
        }
    };
    let (shutdown, stopping) = watch::channel(false);
    for one in bound {
        let Some(dialect) = dialects.get(&one.name).cloned() else { continue };
        let acceptor = Acceptor {
            dialect,
            tls: tls.get(&one.name).cloned(),
            advertised: settings.advertise.get(&one.name).cloned().map(Arc::new),
            connections_max: settings.connections_max,
            supervisor: (*supervisor).clone(),
            shutdown: stopping.clone(),
        };
        accept(supervisor, one, acceptor);
    }
    Ok((shutdown, ready))
}

fn accept(supervisor: &Supervisor, bound: Bound, acceptor: Acceptor) {
    let name = format!("accepting {}", bound.name.text());
    supervisor.spawn(Class::Acceptor, &name, listeners::run(bound, acceptor));
}

fn load_tls(settings: &Settings) -> Result<TlsByName, String> {
    let load = |(&name, files)| Tls::load(name, files).map(|tls| (name, Arc::new(tls)));
    settings.tls.iter().map(load).collect()
}

/// All listeners get what the settings say now, or none does.
fn reload_tls(tls: &TlsByName, settings: &Settings) -> Result<(), String> {
    if let Some(name) = tls.keys().find(|name| !settings.tls.contains_key(name)) {
        return Err(format!("{} is served with TLS; without it is for a restart", name.text()));
    }
    let is_new = |name: &&ListenerName| name.is_built() && !tls.contains_key(name);
    if let Some(name) = settings.tls.keys().find(is_new) {
        return Err(format!("{} is served without TLS; with it is for a restart", name.text()));
    }
    let read = |(name, tls): (&ListenerName, &Arc<Tls>)| {
        Tls::load(*name, &settings.tls[name]).map(|new| (tls.clone(), new))
    };
    let read: Vec<_> = tls.iter().map(read).collect::<Result<_, _>>()?;
    read.into_iter().for_each(|(tls, new)| tls.take_over(new));
    Ok(())
}

fn folder(settings: &Settings) -> DataDir {
    match &settings.data_dir {
        Some(path) => DataDir { path: path.clone(), temporary: false },
        None => {
            let name = format!("wiremill-{}-{:08x}", std::process::id(), env::real().random.u64());
            DataDir { path: std::env::temp_dir().join(name), temporary: true }
        }
    }
}

async fn open_broker(settings: &Settings, dir: &Path, env: Env) -> Result<Broker, String> {
    let options = BrokerOptions {
        memory_budget_len: usize::try_from(settings.memory_budget_len).unwrap_or(usize::MAX),
        default_partitions: settings.default_partitions,
        streams_max: settings.streams_max,
        streams_per_tenant_max: settings.streams_per_tenant_max,
        producer_expiry_ms: settings.producer_expiry_ms,
        retention_interval_ms: settings.retention_interval_ms,
        ephemeral: settings.ephemeral,
        free_space_min_len: if settings.ephemeral { 0 } else { settings.free_space_min_len },
        wal_file_len: settings.wal_file_len,
        uncheckpointed_len_max: settings.uncheckpointed_len_max,
        uncheckpointed_entries_max: settings.uncheckpointed_entries_max,
        ..BrokerOptions::default()
    };
    let mut formats = Formats::default();
    dialects::register_formats(&mut formats).map_err(|e| e.to_string())?;
    let path = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Broker::open(env, &path, options, formats)).await;
    let opened = opened.map_err(|e| format!("{} cannot be opened: {e}", dir.display()))?;
    let (broker, report) = opened.map_err(|e| {
        let hint = match e.kind() {
            ErrorKind::Corrupt => " (`wiremill repair` tells what can be served)",
            _ => "",
        };
        format!("{} cannot be opened: {e}{hint}", dir.display())
    })?;
    if let Some(torn) = &report.torn {
        warn!("the log ended in the middle of a write that nobody was told of; cut: {torn}");
    }
    for damage in &report.damaged {
        error!("not served: {damage}");
    }
    info!(replayed_units = report.replayed_units, took_ms = report.took_ms, "the data directory is open");
    Ok(broker)
}

/// The names that are on, but whose dialect is not there: one line, once.
fn mention_unbuilt(settings: &Settings) {
    let asked = settings.listen.iter().filter(|(name, listen)| !name.is_built() && **listen != Listen::Off);
    let names: Vec<_> = asked.map(|(name, _)| name.text()).collect();
    if !names.is_empty() {
        warn!("not built yet, and not opened: {}", names.join(", "));
    }
}

impl Running {
    async fn until_the_end(
        self,
        settings: &Settings,
        mut signals: Signals,
        logging: &Logging,
        reread: impl Fn() -> Result<Settings, String>,
    ) -> ExitCode {
        let end = self.wait(&mut signals, logging, reread).await;
        let code = match &end {
            End::Asked(by) => {
                info!("{by}: ending in order");
                ExitCode::SUCCESS
            }
            End::DiskFailed(why) => {
                error!(
                    "the disk refused a write: {why}. Nothing is acknowledged any more; reads go on for {} ms",
                    settings.failure_grace_ms
                );
                sleep(Duration::from_millis(settings.failure_grace_ms)).await;
                ExitCode::FAILURE
            }
            End::Fault(why) => {
                error!("ending because {why}");
                ExitCode::FAILURE
            }
        };
        let in_order = self.shut_down(Duration::from_millis(settings.shutdown_deadline_ms)).await;
        if in_order { code } else { ExitCode::FAILURE }
    }

    async fn wait(
        &self,
        signals: &mut Signals,
        logging: &Logging,
        reread: impl Fn() -> Result<Settings, String>,
    ) -> End {
        loop {
            tokio::select! {
                _ = signals.terminate.recv() => return End::Asked("SIGTERM"),
                _ = signals.interrupt.recv() => return End::Asked("SIGINT"),
                _ = signals.lame_duck.recv() => return End::Asked("SIGUSR2"),
                _ = signals.hang_up.recv() => self.reload(logging, &reread),
                reason = self.supervisor.fault() => return End::Fault(reason),
                why = self.broker.failed() => return End::DiskFailed(why.to_string()),
            }
        }
    }

    /// Takes over what can change without a restart.
    fn reload(&self, logging: &Logging, reread: impl Fn() -> Result<Settings, String>) {
        let outcome = reread().and_then(|settings| {
            reload_tls(&self.tls, &settings)?;
            logging.set_level(&settings.log_level)
        });
        match outcome {
            Ok(()) => info!("log level, TLS settings and TLS files were read again"),
            Err(why) => error!("SIGHUP: {why}; what was there stays"),
        }
    }

    /// The whole way down: no new connections, goodbyes, what is in flight, then the engine. True when the engine closed.
    async fn shut_down(mut self, deadline: Duration) -> bool {
        self.ready = None; // whoever looks for the file finds that nothing is ready
        self.shutdown.send_replace(true);
        self.supervisor.finished(Class::Acceptor).await;
        if timeout(deadline, self.supervisor.finished(Class::Session)).await.is_err() {
            let count = self.supervisor.abort(Class::Session);
            warn!(count, "connections were cut: they did not end within shutdown_deadline_ms");
            self.supervisor.finished(Class::Session).await;
        }
        close(&self.broker, deadline.max(Duration::from_secs(1))).await
    }
}

/// Closes the broker where blocking is fine. True when everything staged is on disk.
async fn close(broker: &Broker, deadline: Duration) -> bool {
    let closing = broker.clone();
    match timeout(deadline, tokio::task::spawn_blocking(move || closing.close())).await {
        Ok(Ok(Ok(()))) => return true,
        Ok(Ok(Err(e))) => error!("the data directory was not closed in order: {e}"),
        Ok(Err(e)) => error!("the data directory was not closed in order: {e}"),
        Err(_) => error!("the data directory was not closed in time; the next start replays the log"),
    }
    false
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// What tools of NATS send to have clients told before the end: the end is the same.
    lame_duck: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            lame_duck: signal(SignalKind::user_defined2())?,
        })
    }
}

/// As many file handles as the machine lets this user have: each connection takes one.
fn raise_handle_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        warn!(error = %e, "the limit of open files stays as it is");
    }
}
