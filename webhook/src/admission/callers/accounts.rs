//! Who holds what of the listener, and who gives way when there is no more of it: whoever holds most, as in max-min fairness, so
//! that an address that holds little always gets more, however many others hold much.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What may be held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    pub(super) connections_per_peer: usize,
    pub(super) pieces: usize,
    pub(super) pieces_per_peer: usize,
}

#[derive(Debug)]
pub(super) struct Accounts {
    bounds: Bounds,
    connections: usize,
    pieces: usize,
    peers: HashMap<IpAddr, Peer>,
    /// Connections and bodies are numbered as they come.
    next: u64,
}

#[derive(Debug)]
struct Peer {
    /// A peer's own part of the pieces, in the order of asking.
    part: Arc<Semaphore>,
    pieces: usize,
    connections: BTreeMap<u64, Connection>,
    /// Those that are being read or decided.
    bodies: BTreeMap<u64, Body>,
}

#[derive(Debug)]
struct Connection {
    gone: CancellationToken,
    shaken: bool,
    reading: usize,
    deciding: usize,
}

#[derive(Debug)]
struct Body {
    connection: u64,
    pieces: usize,
    decided: bool,
    gone: CancellationToken,
}

/// What is held under a number; `gone` tells that it was taken away.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) gone: CancellationToken,
}

impl Accounts {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            connections: 0,
            pieces: 0,
            peers: HashMap::new(),
            next: 0,
        }
    }

    /// A place for one more connection, and the peer's part of the pieces. Where all are taken, one of the address that has most
    /// is taken away, if that has at least two more than the newcomer.
    pub(super) fn connect(&mut self, address: IpAddr) -> Option<(Place, Arc<Semaphore>)> {
        let has = self.peers.get(&address).map_or(0, |peer| peer.connections.len());
        if has >= self.bounds.connections_per_peer {
            return None;
        }
        if self.connections >= self.bounds.connections {
            self.disconnect_another(address, has)?;
        }
        let place = self.place();
        let pieces = self.bounds.pieces_per_peer;
        let peer = self.peers.entry(address).or_insert_with(|| Peer {
            part: Arc::new(Semaphore::new(pieces)),
            pieces: 0,
            connections: BTreeMap::new(),
            bodies: BTreeMap::new(),
        });
        let connection = Connection {
            gone: place.gone.clone(),
            shaken: false,
            reading: 0,
            deciding: 0,
        };
        peer.connections.insert(place.number, connection);
        self.connections += 1;
        Some((place, Arc::clone(&peer.part)))
    }

    fn disconnect_another(&mut self, newcomer: IpAddr, has: usize) -> Option<()> {
        let most = self
            .peers
            .iter()
            .filter(|(address, peer)| **address != newcomer && peer.connections.len() > has + 1)
            .max_by_key(|(_, peer)| peer.connections.len());
        let address = *most?.0;
        let peer = self.peers.get_mut(&address)?;
        // One that is being decided is never cut off. Of the others: those before their handshake, those that ask nothing, those
        // that are still sending; of each kind the oldest.
        let (number, _) = peer
            .connections
            .iter()
            .filter(|(_, connection)| connection.deciding == 0)
            .min_by_key(|(_, connection)| match connection {
                Connection { shaken: false, .. } => 0,
                Connection { reading: 0, .. } => 1,
                _ => 2,
            })?;
        let number = *number;
        if let Some(connection) = peer.connections.remove(&number) {
            connection.gone.cancel();
            self.connections -= 1;
        }
        Some(())
    }

    /// The handshake is done.
    pub(super) fn shaken(&mut self, address: IpAddr, number: u64) {
        let peer = self.peers.get_mut(&address);
        if let Some(connection) = peer.and_then(|peer| peer.connections.get_mut(&number)) {
            connection.shaken = true;
        }
    }

    pub(super) fn disconnect(&mut self, address: IpAddr, number: u64) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        if peer.connections.remove(&number).is_some() {
            self.connections -= 1;
        }
        self.forget(address);
    }

    /// So many pieces for a body. Where they are not free, bodies that are still being read are given up, one after the other, each
    /// of the address that holds most, as long as that holds more than the asker then would; none where that is not enough.
    pub(super) fn hold(&mut self, address: IpAddr, connection: u64, pieces: usize) -> Option<Place> {
        let holds = self.peers.get(&address)?.pieces;
        while self.pieces + pieces > self.bounds.pieces {
            self.give_up_another(address, holds + pieces)?;
        }
        let place = self.place();
        let peer = self.peers.get_mut(&address)?;
        let body = Body {
            connection,
            pieces,
            decided: false,
            gone: place.gone.clone(),
        };
        peer.bodies.insert(place.number, body);
        peer.pieces += pieces;
        self.pieces += pieces;
        if let Some(connection) = peer.connections.get_mut(&connection) {
            connection.reading += 1;
        }
        Some(place)
    }

    fn give_up_another(&mut self, asker: IpAddr, would_hold: usize) -> Option<()> {
        let most = self
            .peers
            .iter()
            .filter(|(address, peer)| **address != asker && peer.pieces > would_hold)
            .filter(|(_, peer)| peer.bodies.values().any(|body| !body.decided && body.pieces > 0))
            .max_by_key(|(_, peer)| peer.pieces);
        let address = *most?.0;
        let bodies = self.peers.get(&address)?.bodies.iter();
        let largest = bodies
            .filter(|(_, body)| !body.decided)
            .max_by_key(|(_, body)| body.pieces);
        let number = *largest?.0;
        self.release(address, number)?.cancel();
        Some(())
    }

    /// The body is there as a whole and is being decided; false where it was given up.
    pub(super) fn decide(&mut self, address: IpAddr, number: u64) -> bool {
        let Some(peer) = self.peers.get_mut(&address) else {
            return false;
        };
        let Some(body) = peer.bodies.get_mut(&number) else {
            return false;
        };
        body.decided = true;
        if let Some(connection) = peer.connections.get_mut(&body.connection) {
            connection.reading = connection.reading.saturating_sub(1);
            connection.deciding += 1;
        }
        true
    }

    /// Gives a body's pieces back, if they were not taken away.
    pub(super) fn release(&mut self, address: IpAddr, number: u64) -> Option<CancellationToken> {
        let peer = self.peers.get_mut(&address)?;
        let body = peer.bodies.remove(&number)?;
        peer.pieces -= body.pieces;
        self.pieces -= body.pieces;
        if let Some(connection) = peer.connections.get_mut(&body.connection) {
            let count = if body.decided {
                &mut connection.deciding
            } else {
                &mut connection.reading
            };
            *count = count.saturating_sub(1);
        }
        self.forget(address);
        Some(body.gone)
    }

    fn place(&mut self) -> Place {
        self.next += 1;
        Place {
            number: self.next,
            gone: CancellationToken::new(),
        }
    }

    /// Who holds nothing is nobody.
    fn forget(&mut self, address: IpAddr) {
        let held = self.peers.get(&address);
        if held.is_some_and(|peer| peer.connections.is_empty() && peer.bodies.is_empty()) {
            self.peers.remove(&address);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty() && self.connections == 0 && self.pieces == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        connections: 12,
        connections_per_peer: 8,
        pieces: 100,
        pieces_per_peer: 60,
    };

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn connected(accounts: &mut Accounts, last: u8, count: usize) -> Vec<Place> {
        (0..count)
            .map(|_| accounts.connect(peer(last)).expect("a place").0)
            .collect()
    }

    fn gone(places: &[Place]) -> usize {
        places.iter().filter(|place| place.gone.is_cancelled()).count()
    }

    #[test]
    fn however_many_addresses_hold_all_connections_a_new_one_gets_its_share() {
        let mut accounts = Accounts::new(BOUNDS);
        let hostile: Vec<_> = (1..=3).map(|last| connected(&mut accounts, last, 4)).collect();
        let ours = connected(&mut accounts, 9, 3);
        assert_eq!(gone(&ours), 0);
        assert!(
            accounts.connect(peer(9)).is_none(),
            "three each; nobody has two more than we have"
        );
        for of_one in &hostile {
            assert_eq!(gone(of_one), 1);
            assert!(of_one[0].gone.is_cancelled(), "the oldest");
        }
        for (last, places) in (1..=3).zip(&hostile) {
            for place in places {
                accounts.disconnect(peer(last), place.number);
            }
        }
        for place in &ours {
            accounts.disconnect(peer(9), place.number);
        }
        assert!(accounts.is_empty());
    }

    #[test]
    fn those_before_their_handshake_go_first_and_those_being_decided_never() {
        let mut accounts = Accounts::new(Bounds {
            connections: 4,
            ..BOUNDS
        });
        let places = connected(&mut accounts, 1, 4);
        for place in &places[..3] {
            accounts.shaken(peer(1), place.number);
        }
        let decided = accounts.hold(peer(1), places[0].number, 1).unwrap();
        assert!(accounts.decide(peer(1), decided.number));
        accounts.hold(peer(1), places[1].number, 1).unwrap();
        let going = [3, 2, 1];
        for (newcomer, expected) in (2..).zip(going) {
            assert!(!places[expected].gone.is_cancelled());
            assert!(accounts.connect(peer(newcomer)).is_some());
            assert!(places[expected].gone.is_cancelled(), "newcomer {newcomer}");
        }
        assert!(accounts.connect(peer(5)).is_none());
        assert!(!places[0].gone.is_cancelled());
    }

    #[test]
    fn bodies_that_are_still_sent_give_way_to_whoever_holds_less() {
        let mut accounts = Accounts::new(BOUNDS);
        let connections: Vec<_> = (1..=2).map(|last| connected(&mut accounts, last, 1)).collect();
        let hold = |accounts: &mut Accounts, last: u8, pieces| {
            accounts.hold(peer(last), connections[usize::from(last) - 1][0].number, pieces)
        };
        let large = hold(&mut accounts, 1, 40).unwrap();
        let small = hold(&mut accounts, 1, 20).unwrap();
        let other = hold(&mut accounts, 2, 40).unwrap();
        let ours = connected(&mut accounts, 3, 1);
        assert!(
            accounts.hold(peer(3), ours[0].number, 60).is_none(),
            "nobody holds more than that"
        );
        let body = accounts.hold(peer(3), ours[0].number, 30).unwrap();
        assert!(large.gone.is_cancelled() && !small.gone.is_cancelled() && !other.gone.is_cancelled());
        assert!(
            !accounts.decide(peer(1), large.number),
            "it is too late for that one"
        );
        assert!(accounts.decide(peer(2), other.number));
        assert!(
            accounts.hold(peer(3), ours[0].number, 15).is_none(),
            "one that is being decided is not given up"
        );
        assert!(accounts.release(peer(3), body.number).is_some());
        assert!(
            accounts.release(peer(1), large.number).is_none(),
            "it was released before"
        );
        assert!(accounts.hold(peer(3), ours[0].number, 40).is_some());
    }
}
