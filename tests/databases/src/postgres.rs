//! A PostgreSQL for a test: made in a temporary directory, reached through a socket in it, and ended with the last test that uses it.

use crate::process::Process;
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A server.
pub struct Server {
    directory: TempDir,
    programs: PathBuf,
    /// Where it listens beside its socket, if it has a certificate.
    port: Option<u16>,
    databases: AtomicUsize,
    process: Process,
}

/// One for all tests that leave it alone; none where PostgreSQL is missing, which is said once per test.
pub async fn shared(test: &str) -> Option<Arc<Server>> {
    static SERVER: tokio::sync::Mutex<Weak<Server>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut server = SERVER.lock().await;
    if let Some(running) = server.upgrade() {
        return Some(running);
    }
    let started = Arc::new(Server::start(test).await?);
    *server = Arc::downgrade(&started);
    Some(started)
}

fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut found: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|programs| programs.join("initdb").is_file() && programs.join("postgres").is_file())
        .collect();
    found.sort();
    found.pop()
}

impl Server {
    /// One of this test's own.
    pub async fn start(test: &str) -> Option<Self> {
        Self::begin(test, None).await
    }

    /// One that listens on the loopback device too, with a certificate and its key.
    pub async fn start_with_certificate(test: &str, pair: &(String, String)) -> Option<Self> {
        Self::begin(test, Some(pair)).await
    }

    async fn begin(test: &str, pair: Option<&(String, String)>) -> Option<Self> {
        let Some(programs) = programs() else {
            println!("SKIPPED: {test}: PostgreSQL is not installed (Debian package postgresql)");
            return None;
        };
        let server = Self {
            directory: TempDir::new().unwrap(),
            programs,
            port: pair.map(|_| {
                let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                free.local_addr().unwrap().port()
            }),
            databases: AtomicUsize::new(0),
            process: Process::default(),
        };
        if geteuid().is_root() {
            // It refuses to run as root.
            let Some(user) = User::from_name("postgres").unwrap() else {
                println!("SKIPPED: {test}: PostgreSQL does not run as root, and there is no user `postgres`");
                return None;
            };
            nix::unistd::chown(server.directory.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let made = server
            .program("initdb")
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
            ])
            .arg("--pgdata")
            .arg(server.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let rules =
            "local all with_password scram-sha-256\nlocal all all trust\nhost all all 127.0.0.1/32 trust\n";
        fs::write(server.data().join("pg_hba.conf"), rules).unwrap();
        if let Some((certificate, key)) = pair {
            fs::write(server.data().join("server.crt"), certificate).unwrap();
            let path = server.data().join("server.key");
            fs::write(&path, key).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            // It refuses a key that is another's.
            let owner = fs::metadata(server.data()).unwrap();
            std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
            let settings = "ssl = on\nlisten_addresses = '127.0.0.1'\n";
            fs::write(server.data().join("postgresql.auto.conf"), settings).unwrap();
        }
        server.restart().await;
        Some(server)
    }

    /// Where its files are.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Only replays from now on what a primary would send, as a standby does, until [`Server::promote`].
    pub async fn become_standby(&self) {
        self.end(Signal::SIGINT);
        fs::write(self.data().join("standby.signal"), "").unwrap();
        self.restart().await;
    }

    /// Writes from now on.
    pub async fn promote(&self) {
        let mut connection = PgConnection::connect(&self.url("postgres", "postgres"))
            .await
            .unwrap();
        run(&mut connection, "SELECT pg_promote()").await;
        connection.close().await.unwrap();
    }

    /// A program of PostgreSQL, by a user that it accepts.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        if geteuid().is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
        }
        command
            .args(["--pdeathsig=QUIT", "--"])
            .arg(self.programs.join(name))
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// Starts it where it does not run, and waits until it answers.
    pub async fn restart(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            self.spawn();
            let answered = loop {
                if let Ok(connection) = PgConnection::connect(&self.url("postgres", "postgres")).await {
                    connection.close().await.unwrap();
                    break true;
                }
                if self.has_ended() {
                    break false;
                }
                assert!(
                    Instant::now() < deadline,
                    "PostgreSQL does not answer: {}",
                    self.log()
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            if answered {
                return;
            }
            // Processes of one that was killed may still be ending.
            self.end(Signal::SIGKILL);
            assert!(
                Instant::now() < deadline,
                "PostgreSQL does not start: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Starts it where it cannot start, and gives what it said.
    pub async fn ends_by_itself(&self) -> String {
        self.spawn();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.has_ended() {
            assert!(Instant::now() < deadline, "PostgreSQL goes on: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.end(Signal::SIGKILL);
        self.log()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn spawn(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let mut command = self.program("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.directory.path())
            // Processes are killed here, not machines.
            .args(match self.port {
                Some(port) => ["-p".to_owned(), port.to_string()],
                None => ["-c".to_owned(), "listen_addresses=".to_owned()],
            })
            .args(["-c", "fsync=off", "-c", "max_connections=200"])
            .stdout(Stdio::null())
            .stderr(log);
        self.process.start(command);
    }

    fn has_ended(&self) -> bool {
        self.process.has_ended()
    }

    /// Ends it: SIGINT asks it to, SIGQUIT lets it fall, SIGKILL strikes its first process down.
    pub fn end(&self, signal: Signal) {
        self.process.end(signal);
    }

    fn url(&self, user: &str, database: &str) -> String {
        format!(
            "postgres:///{database}?host={}&port={}&user={user}",
            self.directory.path().display(),
            self.port.unwrap_or(5432)
        )
    }

    /// A database through the loopback device.
    pub fn url_at(&self, host: &str, database: &Database, parameters: &str) -> String {
        let (port, name) = (self.port.unwrap(), &database.name);
        format!("postgres://postgres@{host}:{port}/{name}?{parameters}")
    }

    /// Has no certificate from now on.
    pub async fn stop_encrypting(&self) {
        let mut connection = PgConnection::connect(&self.url("postgres", "postgres"))
            .await
            .unwrap();
        run(&mut connection, "ALTER SYSTEM SET ssl = off").await;
        run(&mut connection, "SELECT pg_reload_conf()").await;
        let deadline = Instant::now() + Duration::from_secs(20);
        // Of the server's first process, which is told of it and takes connections.
        let port = self.port.unwrap();
        let encrypted = format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=require");
        while PgConnection::connect(&encrypted).await.is_ok() {
            assert!(Instant::now() < deadline, "PostgreSQL still encrypts");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        connection.close().await.unwrap();
    }

    /// A new, empty database.
    pub async fn database(&self) -> Database {
        let name = format!("ledger{}", self.databases.fetch_add(1, Ordering::SeqCst));
        let mut connection = PgConnection::connect(&self.url("postgres", "postgres"))
            .await
            .unwrap();
        run(&mut connection, &format!("CREATE DATABASE {name}")).await;
        connection.close().await.unwrap();
        Database {
            url: self.url("postgres", &name),
            name,
        }
    }

    /// Another database with the same in it.
    pub async fn copy(&self, of: &Database) -> Database {
        let name = format!("ledger{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.alone_with(of, &format!("CREATE DATABASE {name} TEMPLATE {}", of.name))
            .await;
        Database {
            url: self.url("postgres", &name),
            name,
        }
    }

    /// Puts one database in the place of another, and that one in its place, as a failover does with servers.
    pub async fn fail_over(&self, from: &Database, to: &Database) {
        let [from, to] = [&from.name, &to.name];
        self.alone_with_both(
            [from, to],
            &[
                format!("ALTER DATABASE {from} RENAME TO aside"),
                format!("ALTER DATABASE {to} RENAME TO {from}"),
                format!("ALTER DATABASE aside RENAME TO {to}"),
            ],
        )
        .await;
    }

    async fn alone_with(&self, database: &Database, statement: &str) {
        self.alone_with_both([&database.name, &database.name], &[statement.to_owned()])
            .await;
    }

    /// Runs statements that nobody may be connected for.
    async fn alone_with_both(&self, databases: [&String; 2], statements: &[String]) {
        let mut connection = PgConnection::connect(&self.url("postgres", "postgres"))
            .await
            .unwrap();
        for database in databases {
            run(
                &mut connection,
                &format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false"),
            )
            .await;
            let end = format!(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{database}'"
            );
            run(&mut connection, &end).await;
        }
        for statement in statements {
            run(&mut connection, statement).await;
        }
        for database in databases {
            run(
                &mut connection,
                &format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true"),
            )
            .await;
        }
        connection.close().await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::SIGQUIT);
    }
}

/// A database of it.
pub struct Database {
    /// Where it is.
    pub url: String,
    name: String,
}

impl Database {
    /// The same by another role.
    pub fn of(&self, user: &str) -> String {
        self.url.replace("user=postgres", &format!("user={user}"))
    }

    /// As the superuser.
    pub async fn connect(&self) -> PgConnection {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        run(&mut connection, "SET search_path = leasehold, pg_temp").await;
        connection
    }
}

/// Runs a statement that answers nothing.
pub async fn run(connection: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}
