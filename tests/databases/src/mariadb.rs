//! A MariaDB for a test.

use crate::process::Process;
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, Connection};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SERVER: &str = "/usr/sbin/mariadbd";
const INSTALL: &str = "/usr/bin/mariadb-install-db";
const NEEDED_BY_IT: &str = "/usr/bin/my_print_defaults";

/// A server.
pub struct Server {
    directory: TempDir,
    databases: AtomicUsize,
    process: Process,
}

/// A database of it.
pub struct Database {
    /// Where it is.
    pub url: String,
}

/// One for all tests that leave it alone; none where MariaDB is missing, which is said once per test.
pub async fn shared(test: &str) -> Option<Arc<Server>> {
    static SHARED: tokio::sync::Mutex<Weak<Server>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut server = SHARED.lock().await;
    if let Some(running) = server.upgrade() {
        return Some(running);
    }
    let started = Arc::new(Server::start(test).await?);
    *server = Arc::downgrade(&started);
    Some(started)
}

impl Server {
    /// One of this test's own.
    pub async fn start(test: &str) -> Option<Self> {
        if [SERVER, INSTALL, NEEDED_BY_IT]
            .iter()
            .any(|program| !Path::new(program).is_file())
        {
            println!(
                "SKIPPED: {test}: MariaDB is not installed (Debian packages mariadb-server-core and mariadb-client-core)"
            );
            return None;
        }
        let server = Self {
            directory: TempDir::new().unwrap(),
            databases: AtomicUsize::new(0),
            process: Process::default(),
        };
        if geteuid().is_root() {
            // It does not like to run as root.
            let Some(user) = User::from_name("nobody").unwrap() else {
                println!("SKIPPED: {test}: MariaDB does not run as root, and there is no user `nobody`");
                return None;
            };
            nix::unistd::chown(server.directory.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let made = server
            .program(INSTALL)
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            .arg(format!("--datadir={}", server.data().display()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        server.restart().await;
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    fn program(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if geteuid().is_root() {
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        }
        command
            .args(["--pdeathsig=KILL", "--", program])
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin")
            .env("TMPDIR", self.directory.path())
            .stdin(Stdio::null());
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Starts it where it does not run, and waits until it answers.
    pub async fn restart(&self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        self.spawn();
        loop {
            if let Ok(connection) = self.connect_as_root("mysql").await {
                connection.close().await.unwrap();
                return;
            }
            assert!(
                !self.process.has_ended() && Instant::now() < deadline,
                "MariaDB does not answer: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn spawn(&self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let mut command = self.program(SERVER);
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", self.data().display()))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!(
                "--pid-file={}",
                self.directory.path().join("pid").display()
            ))
            // Little memory: others run beside it.
            .args([
                "--innodb-buffer-pool-size=32M",
                "--max-connections=200",
                // Processes are killed here, not machines.
                "--innodb-flush-log-at-trx-commit=2",
                "--skip-name-resolve",
                "--skip-networking",
            ])
            .stdout(Stdio::null())
            .stderr(log);
        self.process.start(command);
    }

    /// Ends it: SIGTERM asks it to, SIGKILL strikes it down.
    pub fn end(&self, signal: Signal) {
        self.process.end(signal);
    }

    async fn connect_as_root(&self, database: &str) -> Result<MySqlConnection, sqlx::Error> {
        let options = MySqlConnectOptions::new()
            .socket(self.socket())
            .username("root")
            .database(database);
        MySqlConnection::connect_with(&options).await
    }

    /// Runs a statement that answers nothing, as root.
    pub async fn run(&self, statement: &str) {
        let mut connection = self.connect_as_root("mysql").await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        connection.close().await.unwrap();
    }

    /// A new, empty database.
    pub async fn database(&self) -> Database {
        let name = format!("keys{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.run(&format!("CREATE DATABASE {name}")).await;
        Database {
            url: format!("mysql://root@localhost/{name}?socket={}", self.socket().display()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Signal::SIGKILL);
    }
}

impl Database {
    /// As root.
    pub async fn connect(&self) -> MySqlConnection {
        MySqlConnection::connect(&self.url).await.unwrap()
    }
}
