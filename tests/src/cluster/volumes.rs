//! Directories of the node, and home volumes made of them.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::Cluster;
use crate::Error;

/// The class by which KubeSpawner's claims find home volumes.
pub const HOME_CLASS: &str = "home";
/// The notebook image's user and group.
const JOVYAN: (u32, u32) = (1000, 100);

impl Cluster {
    /// Makes a directory of the node (`/srv/…` only) with its parents. Gives where this machine sees
    /// it, so that a test fills and reads it with ordinary file calls.
    ///
    /// # Errors
    /// If the path is not below `/srv`, the directory cannot be made, or the node is out of reach.
    pub fn node_directory(&self, path: &str) -> Result<PathBuf, Error> {
        let state = self.launcher.directory("make a directory")?;
        let here = state
            .join("srv")
            .join(Path::new(path).strip_prefix("/srv").map_err(|_| Error::File {
                path: path.into(),
                source: std::io::Error::other("only /srv of the node can be reached"),
            })?);
        std::fs::create_dir_all(&here).map_err(|source| Error::File {
            path: here.clone(),
            source,
        })?;
        Ok(here)
    }

    /// Makes a home volume: a directory of the node that anyone may write, owned by the notebook's
    /// user, as a PersistentVolume of class [`HOME_CLASS`]. A claim of that class binds to it.
    ///
    /// # Errors
    /// If the directory or the volume cannot be made.
    pub async fn home_volume(&self, name: &str) -> Result<PathBuf, Error> {
        let path = format!("/srv/homes/{name}");
        let here = self.node_directory(&path)?;
        let (user, group) = JOVYAN;
        std::os::unix::fs::chown(&here, Some(user), Some(group))
            .and_then(|()| std::fs::set_permissions(&here, Permissions::from_mode(0o777)))
            .map_err(|source| Error::File {
                path: here.clone(),
                source,
            })?;
        self.apply(&format!(
            "apiVersion: v1
kind: PersistentVolume
metadata: {{ name: \"home-{name}\" }}
spec:
  capacity: {{ storage: 10Gi }}
  accessModes: [ReadWriteOnce, ReadWriteMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: {HOME_CLASS}
  local: {{ path: \"{path}\" }}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions: [{{ key: kubernetes.io/hostname, operator: In, values: [node0] }}]
"
        ))
        .await?;
        Ok(here)
    }
}
