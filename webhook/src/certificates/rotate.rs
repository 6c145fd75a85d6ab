//! Renews a replica's certificates in time. A leaf is served only after the API server's configuration trusts its CA, and a
//! former CA is withdrawn only after its leaf is no longer served, so that no call fails for the rotation.

use std::time::{Duration, SystemTime};

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::publication::Publication;
use super::{Authority, CertificateOptions, Clock, IssueError, ServingCertificate};

/// How often the configurations are asked whether they trust a new CA.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How often a published CA is asserted again, should somebody have removed it.
const ASSERT_EVERY: Duration = Duration::from_secs(30);
/// With several API servers, the others learn of the new CA a moment later.
const SETTLE: Duration = Duration::from_secs(2);

/// Keeps `serving` fed until `shutdown`. Waits for the API server and the provisioner as long as it must; meanwhile the
/// former leaf is served, until it expires.
///
/// # Errors
/// Only where a certificate can't be made at all: a server name that is none, or no randomness.
pub async fn rotate(
    client: Client,
    options: CertificateOptions,
    serving: &ServingCertificate,
    shutdown: CancellationToken,
) -> Result<(), IssueError> {
    let publication = Publication::new(&client, &options);
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        ended = keep_rotating(&publication, &options, serving) => ended,
    }
}

async fn keep_rotating(
    publication: &Publication,
    options: &CertificateOptions,
    serving: &ServingCertificate,
) -> Result<(), IssueError> {
    let name = options.server_name();
    let mut former: Option<Authority> = None;
    loop {
        let authority = Authority::make_by(options.clock.clone(), &name, options.leaf_lifetime * 7)?;
        wait_until_trusted(publication, former.as_ref(), &authority).await;
        if former.is_some() {
            tokio::time::sleep(SETTLE.min(options.leaf_lifetime / 10)).await;
        }
        // This CA signs leaf after leaf until a successor is due.
        while options.clock.now() < authority.renew_at() {
            let (leaf, renew_at) = authority.leaf(options.leaf_lifetime)?;
            serving.serve(leaf);
            tracing::info!(ca = authority.serial(), "a new certificate is served");
            let due = renew_at.min(authority.renew_at());
            assert_until(publication, &authority, due, &options.clock).await;
        }
        former = Some(authority);
    }
}

async fn wait_until_trusted(publication: &Publication, former: Option<&Authority>, new: &Authority) {
    let authorities: Vec<&Authority> = former.into_iter().chain([new]).collect();
    let mut published: Option<tokio::time::Instant> = None;
    let mut last_error = String::new();
    loop {
        let step = async {
            if published.is_none_or(|at| at.elapsed() > ASSERT_EVERY) {
                publication.publish(&authorities).await?;
                published = Some(tokio::time::Instant::now());
            }
            publication.trusted(new).await
        };
        match step.await {
            Ok(true) => return,
            Ok(false) => tokio::time::sleep(ASK_EVERY).await,
            Err(error) => {
                let error = error.to_string();
                if error != last_error {
                    tracing::warn!(%error, ca = new.serial(), "cannot publish the webhook's CA or see whether it is trusted; trying again");
                    last_error = error;
                }
                tokio::time::sleep(ASK_EVERY * 4).await;
            }
        }
    }
}

/// Waits for `until`, and sees to it that the CA stays published.
async fn assert_until(publication: &Publication, authority: &Authority, until: SystemTime, clock: &Clock) {
    loop {
        if let Err(error) = publication.publish(&[authority]).await {
            tracing::warn!(%error, ca = authority.serial(), "cannot assert that the webhook's CA is published; trying again");
        }
        let left = until.duration_since(clock.now()).unwrap_or_default();
        tokio::time::sleep(left.min(ASSERT_EVERY)).await;
        if left <= ASSERT_EVERY {
            return;
        }
    }
}
