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
    /// Reviews being decided.
    pub(super) decisions: usize,
}

#[derive(Debug)]
pub(super) struct Accounts {
    bounds: Bounds,
    connections: usize,
    pieces: usize,
    decisions: usize,
    peers: HashMap<IpAddr, Peer>,
    /// Connections and bodies are numbered as they come, and connections again when they have been answered.
    next: u64,
}

#[derive(Debug)]
struct Peer {
    /// A peer's own part of the pieces, in the order of asking.
    part: Arc<Semaphore>,
    pieces: usize,
    decisions: usize,
    connections: BTreeMap<u64, Connection>,
    /// Those that are being read or decided.
    bodies: BTreeMap<u64, Body>,
}

#[derive(Debug)]
struct Connection {
    gone: CancellationToken,
    shaken: bool,
    /// Requests that were begun and not answered.
    asking: usize,
    deciding: usize,
    /// When it came or was answered last, in numbers.
    used: u64,
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
            decisions: 0,
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
            decisions: 0,
            connections: BTreeMap::new(),
            bodies: BTreeMap::new(),
        });
        let connection = Connection {
            gone: place.gone.clone(),
            shaken: false,
            asking: 0,
            deciding: 0,
            used: place.number,
        };
        peer.connections.insert(place.number, connection);
        self.connections += 1;
        Some((place, Arc::clone(&peer.part)))
    }

    fn disconnect_another(&mut self, newcomer: IpAddr, has: usize) -> Option<()> {
        // One that is being decided is never cut off.
        let may_go = |connection: &Connection| connection.deciding == 0;
        let most = self
            .peers
            .iter()
            .filter(|(address, peer)| **address != newcomer && peer.connections.len() > has + 1)
            .filter(|(_, peer)| peer.connections.values().any(may_go))
            .max_by_key(|(_, peer)| peer.connections.len());
        let address = *most?.0;
        let peer = self.peers.get_mut(&address)?;
        // First those before their handshake, then those that ask nothing, then those that are still sending; of each kind the one
        // that was of no use for longest.
        let (number, _) = peer
            .connections
            .iter()
            .filter(|(_, connection)| may_go(connection))
            .min_by_key(|(_, connection)| {
                let kind = match connection {
                    Connection { shaken: false, .. } => 0,
                    Connection { asking: 0, .. } => 1,
                    _ => 2,
                };
                (kind, connection.used)
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

    /// A request begins.
    pub(super) fn ask(&mut self, address: IpAddr, number: u64) {
        let peer = self.peers.get_mut(&address);
        if let Some(connection) = peer.and_then(|peer| peer.connections.get_mut(&number)) {
            connection.asking += 1;
        }
    }

    /// A request has its answer.
    pub(super) fn answered(&mut self, address: IpAddr, number: u64) {
        self.next += 1;
        let used = self.next;
        let peer = self.peers.get_mut(&address);
        if let Some(connection) = peer.and_then(|peer| peer.connections.get_mut(&number)) {
            connection.asking = connection.asking.saturating_sub(1);
            connection.used = used;
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

    /// So many pieces for a body, and whether others had to give some up. Where they are not free, bodies that are still being read
    /// are given up, each of the address that holds most, as long as that holds more than the asker then would; none of them, and
    /// nothing for the asker, where that is not enough.
    pub(super) fn hold(&mut self, address: IpAddr, connection: u64, pieces: usize) -> Option<(Place, bool)> {
        let holds = self.peers.get(&address)?.pieces;
        let missing = (self.pieces + pieces).saturating_sub(self.bounds.pieces);
        let given_up = self.to_give_up(address, holds + pieces, missing)?;
        for (address, number) in &given_up {
            if let Some(gone) = self.release(*address, *number) {
                gone.cancel();
            }
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
        Some((place, !given_up.is_empty()))
    }

    /// Bodies that make up for what is missing, if there are any.
    fn to_give_up(&self, asker: IpAddr, would_hold: usize, missing: usize) -> Option<Vec<(IpAddr, u64)>> {
        let mut others: HashMap<IpAddr, (usize, Vec<(usize, u64)>)> = HashMap::new();
        if missing > 0 {
            for (address, peer) in self.peers.iter().filter(|(address, _)| **address != asker) {
                let reading = peer.bodies.iter().filter(|(_, body)| !body.decided);
                let mut reading: Vec<_> = reading.map(|(number, body)| (body.pieces, *number)).collect();
                reading.sort_unstable();
                others.insert(*address, (peer.pieces, reading));
            }
        }
        let (mut given_up, mut freed) = (Vec::new(), 0);
        while freed < missing {
            let (address, (holds, reading)) = others
                .iter_mut()
                .filter(|(_, (holds, reading))| *holds > would_hold && !reading.is_empty())
                .max_by_key(|(_, (holds, _))| *holds)?;
            let (pieces, number) = reading.pop()?;
            *holds -= pieces;
            freed += pieces;
            given_up.push((*address, number));
        }
        Some(given_up)
    }

    /// The body is there as a whole and is being decided. Not where it was given up, nor where its address has as many decisions
    /// under way as are left for all: those of one address leave half of them, those of two a third.
    pub(super) fn decide(&mut self, address: IpAddr, number: u64) -> bool {
        let left = self.bounds.decisions.saturating_sub(self.decisions);
        let Some(peer) = self.peers.get_mut(&address) else {
            return false;
        };
        let Some(body) = peer.bodies.get_mut(&number).filter(|_| peer.decisions < left) else {
            return false;
        };
        body.decided = true;
        peer.decisions += 1;
        self.decisions += 1;
        if let Some(connection) = peer.connections.get_mut(&body.connection) {
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
        if body.decided {
            peer.decisions -= 1;
            self.decisions -= 1;
            if let Some(connection) = peer.connections.get_mut(&body.connection) {
                connection.deciding = connection.deciding.saturating_sub(1);
            }
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
        self.peers.is_empty() && self.connections == 0 && self.pieces == 0 && self.decisions == 0
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
        decisions: 12,
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
        let (decided, _) = accounts.hold(peer(1), places[0].number, 1).unwrap();
        assert!(accounts.decide(peer(1), decided.number));
        accounts.ask(peer(1), places[1].number);
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
            let connection = connections[usize::from(last) - 1][0].number;
            accounts
                .hold(peer(last), connection, pieces)
                .map(|(place, _)| place)
        };
        let large = hold(&mut accounts, 1, 40).unwrap();
        let small = hold(&mut accounts, 1, 20).unwrap();
        let other = hold(&mut accounts, 2, 40).unwrap();
        let ours = connected(&mut accounts, 3, 1);
        assert!(
            accounts.hold(peer(3), ours[0].number, 60).is_none(),
            "nobody holds more than that"
        );
        assert!(!large.gone.is_cancelled(), "then nobody loses any");
        let (body, gave_way) = accounts.hold(peer(3), ours[0].number, 30).unwrap();
        assert!(gave_way);
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

    #[test]
    fn a_connection_that_was_just_answered_goes_after_one_that_idles() {
        let mut accounts = Accounts::new(Bounds {
            connections: 3,
            ..BOUNDS
        });
        let places = connected(&mut accounts, 1, 3);
        for place in &places {
            accounts.shaken(peer(1), place.number);
        }
        accounts.ask(peer(1), places[0].number);
        accounts.answered(peer(1), places[0].number);
        accounts.connect(peer(2)).unwrap();
        assert!(places[1].gone.is_cancelled() && !places[0].gone.is_cancelled());
    }

    #[test]
    fn where_one_address_only_decides_another_gives_way() {
        let mut accounts = Accounts::new(Bounds {
            connections: 5,
            ..BOUNDS
        });
        let deciding = connected(&mut accounts, 1, 3);
        for place in &deciding {
            let (body, _) = accounts.hold(peer(1), place.number, 1).unwrap();
            assert!(accounts.decide(peer(1), body.number));
        }
        let idle = connected(&mut accounts, 2, 2);
        accounts.connect(peer(3)).unwrap();
        assert_eq!((gone(&deciding), gone(&idle)), (0, 1));
    }

    #[test]
    fn however_many_addresses_ask_there_are_decisions_left_for_another() {
        let mut accounts = Accounts::new(BOUNDS);
        let decided = |accounts: &mut Accounts, last: u8| {
            let connection = connected(accounts, last, 1)[0].number;
            let mut decide = |_: &i32| {
                let (body, _) = accounts.hold(peer(last), connection, 1).unwrap();
                accounts.decide(peer(last), body.number)
            };
            (0..20).filter(&mut decide).count()
        };
        let counts = [1, 2, 3].map(|last| decided(&mut accounts, last));
        assert_eq!(counts, [6, 3, 2], "as many as were left");
        assert_eq!(decided(&mut accounts, 4), 1);
    }
}
