//! What callers may hold of this process: connections, and bytes of bodies. Any pod may reach the port, and only the API server
//! has business with it; one caller alone can neither fill the memory nor keep others from being answered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies are counted in pieces of this many bytes.
const PIECE: usize = 1 << 10;
/// Of the bytes for bodies, one address may hold this part.
const PARTS: usize = 4;

/// Bounds of the listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A review whose caller names no timeout is answered within this time.
    pub patience: Duration,
    /// A connection without a request is closed after this time. Longer than the 90 s after which the API server's client closes
    /// it, so that no review is sent into a connection that we are closing; and longer than a review takes.
    pub idle: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// Of these, from one address.
    pub connections_per_peer: usize,
    /// Bytes of the bodies that are being read or decided.
    pub body_bytes: usize,
}

impl Limits {
    /// The defaults, which leave an API server far more than it uses: it speaks HTTP/1.1 to webhooks, a connection for each review
    /// that is under way, and keeps some more idle.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self {
            patience,
            idle: Duration::from_secs(120),
            connections: 1024,
            connections_per_peer: 256,
            body_bytes: 64 << 20,
        }
    }
}

/// Who is connected and what they hold.
#[derive(Debug)]
pub(super) struct Callers {
    connections: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    peers: Mutex<HashMap<IpAddr, Peer>>,
    connections_per_peer: usize,
    pieces_per_peer: usize,
}

#[derive(Debug)]
struct Peer {
    connections: usize,
    bodies: Arc<Semaphore>,
}

/// A connection's place; dropping gives it back.
#[derive(Debug)]
pub(super) struct Caller {
    callers: Arc<Callers>,
    address: IpAddr,
    bodies: Arc<Semaphore>,
    _place: OwnedSemaphorePermit,
}

/// Bytes of a body; dropping gives them back.
#[derive(Debug)]
pub(super) struct Held {
    _of_peer: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Callers {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        // A part must at least hold one body, or no large one is ever read.
        let pieces = pieces(limits.body_bytes.max(PARTS * super::MAX_BODY_BYTES));
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(limits.connections)),
            bodies: Arc::new(Semaphore::new(pieces)),
            peers: Mutex::default(),
            connections_per_peer: limits.connections_per_peer,
            pieces_per_peer: pieces / PARTS,
        })
    }

    /// A place for one more connection from there, if there is any.
    pub(super) fn connect(self: &Arc<Self>, address: IpAddr) -> Option<Caller> {
        let address = address.to_canonical();
        let place = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peers.entry(address).or_insert_with(|| Peer {
            connections: 0,
            bodies: Arc::new(Semaphore::new(self.pieces_per_peer)),
        });
        if peer.connections >= self.connections_per_peer {
            return None;
        }
        peer.connections += 1;
        Some(Caller {
            callers: Arc::clone(self),
            address,
            bodies: Arc::clone(&peer.bodies),
            _place: place,
        })
    }
}

impl Caller {
    /// Waits until a body of this many bytes may be read. The caller's own part comes first: who has used theirs up waits for
    /// themselves and keeps nobody else waiting.
    pub(super) async fn hold(&self, bytes: usize) -> Option<Held> {
        let pieces = u32::try_from(pieces(bytes)).ok()?;
        let of_peer = Arc::clone(&self.bodies).acquire_many_owned(pieces).await.ok()?;
        let all = Arc::clone(&self.callers.bodies);
        let of_all = all.acquire_many_owned(pieces).await.ok()?;
        Some(Held {
            _of_peer: of_peer,
            _of_all: of_all,
        })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let mut peers = self.callers.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = peers.get_mut(&self.address) {
            peer.connections = peer.connections.saturating_sub(1);
            if peer.connections == 0 {
                peers.remove(&self.address);
            }
        }
    }
}

fn pieces(bytes: usize) -> usize {
    bytes.div_ceil(PIECE)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::admission::MAX_BODY_BYTES;

    fn callers() -> Arc<Callers> {
        Callers::new(&Limits {
            connections: 3,
            connections_per_peer: 2,
            ..Limits::new(Duration::from_secs(1))
        })
    }

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn one_address_has_its_own_number_of_connections_and_all_together_have_theirs() {
        let callers = callers();
        let first = callers.connect(peer(1)).unwrap();
        let second = callers
            .connect(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1]))
            .unwrap();
        assert!(
            callers.connect(peer(1)).is_none(),
            "the same address, however it is written"
        );
        let third = callers.connect(peer(2)).unwrap();
        assert!(callers.connect(peer(3)).is_none());
        drop((first, third));
        assert!(callers.connect(peer(1)).is_some());
        drop(second);
        assert!(
            callers.peers.lock().unwrap().is_empty(),
            "who is gone is forgotten"
        );
    }

    #[test]
    fn whoever_uses_up_their_part_for_bodies_waits_and_others_do_not() {
        let callers = callers();
        let (hog, other) = (
            callers.connect(peer(1)).unwrap(),
            callers.connect(peer(2)).unwrap(),
        );
        let mut held: Vec<Held> = std::iter::from_fn(|| hog.hold(MAX_BODY_BYTES).now_or_never().flatten())
            .take(100)
            .collect();
        assert_eq!(held.len(), (64 << 20) / PARTS / MAX_BODY_BYTES);
        assert!(other.hold(MAX_BODY_BYTES).now_or_never().flatten().is_some());
        held.pop();
        assert!(hog.hold(MAX_BODY_BYTES).now_or_never().flatten().is_some());
    }

    #[test]
    fn however_little_is_allowed_one_body_of_the_largest_size_can_be_read() {
        let callers = Callers::new(&Limits {
            body_bytes: 1,
            ..Limits::new(Duration::from_secs(1))
        });
        let caller = callers.connect(peer(1)).unwrap();
        assert!(caller.hold(MAX_BODY_BYTES).now_or_never().flatten().is_some());
    }
}
