//! The files through which the containers of a pod talk.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Failure;
use crate::pod::MAIN;

/// The shared directory.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

/// What the executor needs of a template.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Template {
    container_set: Set,
    sidecars: Vec<Named>,
    script: Option<Script>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Set {
    containers: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    dependencies: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Script {
    source: String,
}

impl Template {
    /// Names of the containers that do the template's work.
    #[must_use]
    pub fn mains(&self) -> Vec<String> {
        if self.container_set.containers.is_empty() {
            return vec![MAIN.to_owned()];
        }
        self.container_set
            .containers
            .iter()
            .map(|it| it.name.clone())
            .collect()
    }

    /// Names of the containers that must have succeeded before `container`.
    #[must_use]
    pub fn dependencies(&self, container: &str) -> Vec<String> {
        let member = self
            .container_set
            .containers
            .iter()
            .find(|it| it.name == container);
        member.map(|it| it.dependencies.clone()).unwrap_or_default()
    }

    /// Whether `container` only accompanies the others and is to end with them.
    #[must_use]
    pub fn is_sidecar(&self, container: &str) -> bool {
        self.sidecars.iter().any(|it| it.name == container)
    }
}

impl Files {
    /// The shared directory `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Puts this program, the template and a script's source where the other containers look for them.
    ///
    /// # Errors
    /// [`Failure`] if a file cannot be written or the template is none.
    pub fn prepare(&self, template: &str) -> Result<(), Failure> {
        let parsed: Template = serde_json::from_str(template)?;
        // Containers of different users write below it.
        self.directory(&self.root.join("ctr"))?;
        self.put(&self.root.join("template"), template.as_bytes(), 0o644)?;
        let this = Path::new("/proc/self/exe");
        let program = fs::read(this).map_err(failed("reading", this))?;
        self.put(&self.root.join("argoexec"), &program, 0o755)?;
        match parsed.script {
            Some(script) => self.put(Path::new("/argo/staging/script"), script.source.as_bytes(), 0o755),
            None => Ok(()),
        }
    }

    /// The template that [`Files::prepare`] left.
    ///
    /// # Errors
    /// [`Failure`] if there is none.
    pub fn template(&self) -> Result<Template, Failure> {
        let path = self.root.join("template");
        let text = fs::read(&path).map_err(failed("reading", &path))?;
        Ok(serde_json::from_slice(&text)?)
    }

    /// Says that the emissary of `container` lives, until the file that is given back is closed, by its death or
    /// otherwise.
    pub(super) fn claim(&self, container: &str) -> Result<File, Failure> {
        let directory = self.container(container);
        self.directory(&directory)?;
        let (path, hidden) = (directory.join("alive"), directory.join(".alive"));
        // Locked before it can be seen, so nobody sees it unlocked while its owner lives.
        let file = File::create(&hidden).map_err(failed("creating", &hidden))?;
        file.lock().map_err(failed("locking", &hidden))?;
        let readable = Permissions::from_mode(0o644);
        fs::set_permissions(&hidden, readable).map_err(failed("opening up", &hidden))?;
        fs::rename(&hidden, &path).map_err(failed("creating", &path))?;
        Ok(file)
    }

    /// Whether the emissary of `container` started and is gone.
    pub(super) fn is_dead(&self, container: &str) -> bool {
        File::open(self.container(container).join("alive")).is_ok_and(|file| file.try_lock_shared().is_ok())
    }

    /// The exit code of `container`, once it has ended.
    ///
    /// # Errors
    /// [`Failure`] if the file is there but cannot be read.
    pub fn exit_code(&self, container: &str) -> Result<Option<i32>, Failure> {
        let path = self.container(container).join("exitcode");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(
                text.trim().parse().unwrap_or(i32::from(super::EXECUTOR_FAILED)),
            )),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("reading", &path)(error)),
        }
    }

    /// Says how `container` ended.
    pub(super) fn set_exit_code(&self, container: &str, code: i32) -> Result<(), Failure> {
        self.put(
            &self.container(container).join("exitcode"),
            code.to_string().as_bytes(),
            0o644,
        )
    }

    /// Takes the signal that somebody left for `container`.
    pub(super) fn take_signal(&self, container: &str) -> Option<i32> {
        let path = self.container(container).join("signal");
        let signal = fs::read_to_string(&path).ok()?.trim().parse().ok();
        // If it cannot be removed it would be sent again and again, which is what it asks for.
        let _ = fs::remove_file(&path);
        signal
    }

    fn container(&self, name: &str) -> PathBuf {
        self.root.join("ctr").join(name)
    }

    /// Makes a directory that everybody may write to.
    fn directory(&self, path: &Path) -> Result<(), Failure> {
        match fs::create_dir_all(path) {
            Ok(()) => {}
            Err(error) => return Err(failed("creating", path)(error)),
        }
        match fs::set_permissions(path, Permissions::from_mode(0o777)) {
            // Somebody else made it, and opened it up.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            result => result.map_err(failed("opening up", path)),
        }
    }

    /// Writes a file whole: whoever sees it sees all of it.
    fn put(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
        let hidden = path.with_extension("new");
        fs::write(&hidden, content).map_err(failed("writing", &hidden))?;
        fs::set_permissions(&hidden, Permissions::from_mode(mode)).map_err(failed("opening up", &hidden))?;
        fs::rename(&hidden, path).map_err(failed("writing", path))
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.to_owned();
    move |source| Failure::File { what, path, source }
}
