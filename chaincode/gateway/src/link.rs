//! One peer: its connection, which is opened when it is first needed and again when it broke, and how it did lately.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fabric_wire::{EndorserClient, GatewayClient};
use tokio::time::Instant;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::config::{ClientCertificate, Config, ConfigError, MAX_MESSAGE_BYTES, MIN_PING_INTERVAL, Peer};
use crate::connection::{Connections, channel};

/// How long a ping may remain unanswered.
const PING_PATIENCE: Duration = Duration::from_secs(20);
/// How much of an answer may be on its way before this side has taken it, in bytes. HTTP/2's own 64 KiB make a large one slow.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// A peer that failed is asked last for this long, and twice as long after each further failure.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// How a peer did lately.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Health {
    failures: u32,
    failed_at: Option<Instant>,
    rests_until: Option<Instant>,
}

impl Health {
    /// What a caller is to know. Of several callers after a rest one finds the peer well and tries it; for the others it rests on, so
    /// that they do not all wait for a peer that gives no answer.
    fn look(&mut self, now: Instant) -> Self {
        let seen = *self;
        if self.rests_until.is_some_and(|until| until <= now) {
            self.rests_until = now.checked_add(rest(self.failures.saturating_sub(1)));
        }
        seen
    }

    /// Whether it is asked last.
    pub(crate) fn rests(self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| until > now)
    }

    /// After one more failure.
    fn failed(self, now: Instant) -> Self {
        Self {
            failures: self.failures.saturating_add(1),
            failed_at: Some(now),
            rests_until: now.checked_add(rest(self.failures)),
        }
    }
}

/// How long a peer rests that failed so often before.
fn rest(failures: u32) -> Duration {
    FIRST_REST
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(LONGEST_REST)
}

/// In which order to ask: those that are well as they are configured, then those that failed, whose rest ends first before the others.
pub(crate) fn order(now: Instant, healths: &[Health]) -> Vec<usize> {
    let mut order: Vec<(Option<Instant>, usize)> = healths
        .iter()
        .enumerate()
        .map(|(place, health)| (health.rests_until.filter(|until| *until > now), place))
        .collect();
    order.sort();
    order.into_iter().map(|(_, place)| place).collect()
}

/// A peer and the way to it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) address: String,
    channel: Channel,
    pub(crate) connections: Arc<Connections>,
    health: Mutex<Health>,
}

impl Link {
    /// Needs the reactor of tokio, and opens nothing yet.
    pub(crate) fn new(peer: &Peer, config: &Config) -> Result<Self, ConfigError> {
        let endpoint = endpoint(peer, config.client_certificate.as_ref())?
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(ping_interval(config))
            .keep_alive_timeout(PING_PATIENCE)
            .keep_alive_while_idle(true);
        let connections = Arc::default();
        Ok(Self {
            address: peer.address.clone(),
            channel: channel(&endpoint, config.deadlines.connect, &connections),
            connections,
            health: Mutex::default(),
        })
    }

    pub(crate) fn client(&self) -> GatewayClient<Channel> {
        GatewayClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn endorser(&self) -> EndorserClient<Channel> {
        EndorserClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn look(&self, now: Instant) -> Health {
        self.health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look(now)
    }

    /// Whether it failed lately, and is asked last.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.health
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rests(now)
    }

    pub(crate) fn did_well(&self) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = Health::default();
    }

    /// A call that was begun at `begun` failed.
    pub(crate) fn failed(&self, begun: Instant) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        // Calls that were under way together fail together: that is one failure.
        if health.failed_at.is_none_or(|failed| failed <= begun) {
            *health = health.failed(Instant::now());
        }
    }
}

/// Never more often than a peer bears.
fn ping_interval(config: &Config) -> Duration {
    config.ping_interval.max(MIN_PING_INTERVAL)
}

fn endpoint(peer: &Peer, client: Option<&ClientCertificate>) -> Result<Endpoint, ConfigError> {
    let address = || peer.address.clone();
    let is_address = peer
        .address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let scheme = if peer.roots.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", peer.address))
        .ok()
        .filter(|_| is_address)
        .ok_or_else(|| ConfigError::Address { address: address() })?;
    let Some(roots) = &peer.roots else {
        return Ok(endpoint);
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
    if let Some(name) = &peer.server_name {
        tls = tls.domain_name(name);
    }
    if let Some(ClientCertificate { certificate, key }) = client {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    endpoint.tls_config(tls).map_err(|source| ConfigError::Tls {
        address: address(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_failed_are_asked_last_and_soonest_those_that_rest_shortest() {
        let now = Instant::now();
        let well = Health::default();
        let failed = well.failed(now);
        let failed_twice = failed.failed(now);
        assert_eq!(order(now, &[failed_twice, well, failed, well]), [1, 3, 2, 0]);
        let rested = now + FIRST_REST;
        assert_eq!(order(rested, &[failed_twice, well, failed]), [1, 2, 0]);
    }

    #[test]
    fn after_a_rest_one_caller_tries_and_the_others_pass_the_peer_over() {
        let now = Instant::now();
        let mut failed = Health::default().failed(now);
        let mut first = || {
            order(
                now + FIRST_REST,
                &[failed.look(now + FIRST_REST), Health::default()],
            )
        };
        assert_eq!([first(), first(), first()], [[0, 1], [1, 0], [1, 0]]);
        let later = now + FIRST_REST * 2;
        assert_eq!(order(later, &[failed.look(later), Health::default()]), [0, 1]);
    }

    #[test]
    fn a_rest_never_grows_beyond_the_longest() {
        let now = Instant::now();
        let health = (0..100).fold(Health::default(), |health, _| health.failed(now));
        assert_eq!(health.rests_until, Some(now + LONGEST_REST));
    }

    #[test]
    fn nobody_can_have_a_peer_pinged_more_often_than_it_bears() {
        for seconds in [0, 1, 59, 60] {
            let config = Config {
                ping_interval: Duration::from_secs(seconds),
                ..Config::new(Vec::new())
            };
            assert_eq!(ping_interval(&config), MIN_PING_INTERVAL);
        }
        assert!(ping_interval(&Config::new(Vec::new())) > MIN_PING_INTERVAL);
    }

    #[tokio::test]
    async fn what_is_no_address_is_said_at_once() {
        for address in ["", "peer", "peer:", ":7051", "peer:70510", "a b:1"] {
            let refused = endpoint(&Peer::plain(address), None);
            assert!(matches!(refused, Err(ConfigError::Address { .. })), "{address}");
        }
        assert!(endpoint(&Peer::plain("peer:7051"), None).is_ok());
        assert!(endpoint(&Peer::plain("[::1]:7051"), None).is_ok());
    }
}
