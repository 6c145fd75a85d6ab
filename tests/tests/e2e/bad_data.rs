//! What only the node can know of a dataset's directory, and what its owner may not register.

use std::os::unix::fs::PermissionsExt;

use leasehold_tests::{TestResult, journey::OWNERS_ROOT};

use crate::stage::on_stage;

#[test]
fn a_directory_that_cannot_be_mounted_is_told_to_its_holder_and_its_jobs_are_refused() -> TestResult {
    on_stage("bad data", async |stage| {
        let frank = stage.person("frank").await?;
        let root = stage.site.cluster().node_directory(OWNERS_ROOT)?;
        std::os::unix::fs::symlink("/etc", root.join("elsewhere"))?;
        std::fs::write(root.join("file"), "not a directory")?;
        std::fs::create_dir_all(root.join("anybodys/set"))?;
        std::fs::set_permissions(root.join("anybodys"), std::fs::Permissions::from_mode(0o777))?;

        for (name, path, code) in [
            ("missing", "nowhere", "path_missing"),
            ("linked", "elsewhere", "path_symlink"),
            ("through-link", "elsewhere/ssl", "path_symlink"),
            ("a-file", "file", "not_a_directory"),
            ("exchangeable", "anybodys/set", "path_exposed"),
        ] {
            stage
                .steward
                .register(name, &format!("{OWNERS_ROOT}/{path}"), "unused")?;
            let leased = frank.run(&["leasehold", "lease", name]).await?;
            assert_eq!(leased.code, 1, "{name}: {} {}", leased.stdout, leased.stderr);
            assert!(leased.stderr.contains(code), "{name}: {}", leased.stderr);
            let lease = stage.lease(&frank, name).await?;
            assert_eq!(lease.mount, "failed");
            assert_eq!(lease.finding.map(|it| it.code), Some(code.to_owned()));
        }

        let run = frank.workflow(&["env LEASE_DATASETS=missing ls"]).await?;
        assert_ne!(run.phase, "Succeeded");
        assert!(
            run.messages.join("\n").contains("mount_failed"),
            "{:?}",
            run.messages
        );
        // What cannot be mounted stops only jobs that name it.
        let run = frank.workflow(&["ls"]).await?;
        assert_eq!(run.phase, "Succeeded", "{:?}", run.messages);
        Ok(())
    })
}

#[test]
fn a_path_outside_the_owners_roots_is_refused_and_nothing_is_registered() -> TestResult {
    on_stage("outside", async |stage| {
        for path in [
            "/etc",
            "/srv/leasehold/uis/../uio",
            "/srv/leasehold/uisx/a",
            "srv/leasehold/uis/a",
            "/srv/leasehold/uis",
        ] {
            let refused = stage.steward.try_register("outside", path, "unused")?;
            assert_eq!(refused.code, 1, "{path}: {}", refused.stdout);
            assert!(refused.stderr.contains("volume"), "{path}: {}", refused.stderr);
        }
        let catalogue = stage.steward.leasehold(&["datasets", "list"])?.success("list")?;
        assert!(!catalogue.contains("outside"), "{catalogue}");
        Ok(())
    })
}
