//! What callers may hold of this process: connections, and bytes of bodies. Any pod may reach the port, and only the API server
//! has business with it; neither one caller nor many together can fill the memory or keep others from being answered.

mod accounts;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use accounts::{Accounts, Bounds, Place};

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
    /// Reviews that are decided at a time; an address may have as many as are left for others.
    pub decisions: usize,
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
            decisions: 512,
        }
    }
}

/// Who is connected and what they hold.
#[derive(Debug)]
pub(super) struct Callers {
    accounts: Mutex<Accounts>,
    released: Notify,
}

/// A connection's place; dropping gives it back.
#[derive(Debug)]
pub(super) struct Caller {
    callers: Arc<Callers>,
    address: IpAddr,
    place: Place,
    part: Arc<Semaphore>,
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Asking<'c>(&'c Caller);

/// Bytes of a body; dropping gives them back.
#[derive(Debug)]
pub(super) struct Held {
    callers: Arc<Callers>,
    address: IpAddr,
    place: Place,
    _of_part: OwnedSemaphorePermit,
}

impl Callers {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        // A part must at least hold one body, or no large one is ever read.
        let pieces = pieces(limits.body_bytes.max(PARTS * super::MAX_BODY_BYTES));
        let bounds = Bounds {
            connections: limits.connections,
            connections_per_peer: limits.connections_per_peer,
            pieces,
            pieces_per_peer: pieces / PARTS,
            decisions: limits.decisions,
        };
        Arc::new(Self {
            accounts: Mutex::new(Accounts::new(bounds)),
            released: Notify::new(),
        })
    }

    /// A place for one more connection from there, if there is any or another has to give way.
    pub(super) fn connect(self: &Arc<Self>, address: IpAddr) -> Option<Caller> {
        let address = address.to_canonical();
        let (place, part) = self.accounts().connect(address)?;
        Some(Caller {
            callers: Arc::clone(self),
            address,
            place,
            part,
        })
    }

    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Caller {
    /// Resolves when the place was given to another.
    pub(super) async fn evicted(&self) {
        self.place.gone.cancelled().await;
    }

    /// The handshake is done; until then the connection is the first to give way.
    pub(super) fn shaken(&self) {
        self.callers.accounts().shaken(self.address, self.place.number);
    }

    /// A request begins; until the guard is dropped its connection does not count as idle.
    pub(super) fn ask(&self) -> Asking<'_> {
        self.callers.accounts().ask(self.address, self.place.number);
        Asking(self)
    }

    /// Waits until a body of this many bytes may be read. The caller's own part comes first: who has used theirs up waits for
    /// themselves and keeps nobody else waiting.
    pub(super) async fn hold(&self, bytes: usize) -> Option<Held> {
        let pieces = pieces(bytes);
        let part = Arc::clone(&self.part);
        let of_part = part.acquire_many_owned(u32::try_from(pieces).ok()?).await.ok()?;
        loop {
            let mut released = pin!(self.callers.released.notified());
            released.as_mut().enable();
            let place = self
                .callers
                .accounts()
                .hold(self.address, self.place.number, pieces);
            if let Some((place, others_gave_way)) = place {
                if others_gave_way {
                    // They may have given up more than it took.
                    self.callers.released.notify_waiters();
                }
                return Some(Held {
                    callers: Arc::clone(&self.callers),
                    address: self.address,
                    place,
                    _of_part: of_part,
                });
            }
            released.await;
        }
    }
}

impl Held {
    /// Resolves when the bytes were given to another.
    pub(super) async fn evicted(&self) {
        self.place.gone.cancelled().await;
    }

    /// The body is there, and will be answered soon: nobody takes its bytes any more. False where somebody did, or where its address
    /// has too many decisions under way.
    pub(super) fn decide(&self) -> bool {
        self.callers.accounts().decide(self.address, self.place.number)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let Caller {
            callers,
            address,
            place,
            ..
        } = self.0;
        callers.accounts().answered(*address, place.number);
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.callers
            .accounts()
            .disconnect(self.address, self.place.number);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self
            .callers
            .accounts()
            .release(self.address, self.place.number)
            .is_some()
        {
            self.callers.released.notify_waiters();
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
        let fourth = callers.connect(peer(3)).unwrap();
        assert!(first.evicted().now_or_never().is_some(), "who has most gives way");
        assert!(callers.connect(peer(4)).is_none(), "all have one");
        drop(first);
        assert!(callers.connect(peer(4)).is_none(), "its place was given away");
        drop((third, fourth));
        assert!(callers.connect(peer(1)).is_some());
        drop(second);
        assert!(callers.accounts().is_empty(), "who is gone is forgotten");
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
