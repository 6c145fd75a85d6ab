//! The list of leases: the caller's own, and for data stewards those of the organisation's datasets, page by page.
//!
//! A list is made of parts, one for each state and each reason to see a lease, and each part is an index of the ledger's, so that an answer
//! costs the same however many leases there are. Where an index has others' leases too, as that of all leases in a state, an answer
//! looks at [`MOST_WALKED`] of them at most: a page may have fewer items than were asked for, none even, and a `next`.
//!
//! The parts come in the order in which leases pass through their states: one that passes on while the list is read is seen twice,
//! never left out.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use http::request::Parts;
use leasehold_broker_wire::rest::{Lease, List};
use leasehold_chaincode::{DatasetId, DatasetRef, Lease as LedgerLease, LeaseState, Page, PageRequest, key};
use serde::Deserialize;

use super::places::Places;
use super::{is_own, shown};
use crate::api::caller::Caller;
use crate::api::conditions::IfNoneMatch;
use crate::api::openapi::{NotModified, ReadRefused};
use crate::api::parameters::{self, Page as AskedPage};
use crate::api::problem::ApiProblem;
use crate::broker::Broker;
use crate::ledger::ReadError;
use crate::ledgers::Reading;

/// Leases that one answer looks at before it says that there may be more.
const MOST_WALKED: usize = 2_000;

/// Hexadecimal digits of a cursor's seal: 128 bits.
const SEAL: usize = 32;

/// Longest id or name of a dataset, characters.
const LONGEST_REFERENCE: usize = 64;

const STATES: [LeaseState; 5] = [
    LeaseState::Requested,
    LeaseState::Waiting,
    LeaseState::Active,
    LeaseState::Ending,
    LeaseState::Ended,
];

/// Which leases are asked for.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// The `next` of the page before; none for the first.
    #[param(pattern = "^[!-~]{0,256}$")]
    after: Option<String>,
    /// How many items at most.
    #[param(minimum = 1, maximum = 200, default = 100)]
    limit: Option<usize>,
    /// Only those in this state.
    #[param(value_type = Option<String>, pattern = "^(requested|waiting|active|ending|ended)$")]
    state: Option<LeaseState>,
    /// Only those of this dataset, by id or name.
    #[param(min_length = 1, max_length = 64)]
    dataset: Option<String>,
}

/// What was asked, checked.
pub struct Asked {
    page: PageRequest,
    state: Option<LeaseState>,
    dataset: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiProblem> {
        let wanted: Wanted = parameters::query(parts, state).await?;
        let fits = |dataset: &String| (1..=LONGEST_REFERENCE).contains(&dataset.chars().count());
        if wanted.dataset.as_ref().is_some_and(|dataset| !fits(dataset)) {
            return Err(ApiProblem::field(
                "dataset",
                "expected the id or name of a dataset",
            ));
        }
        Ok(Self {
            page: AskedPage::checked(wanted.after, wanted.limit)?.into(),
            state: wanted.state,
            dataset: wanted.dataset,
        })
    }
}

/// Of which dataset leases are wanted.
enum Of {
    Any,
    /// By what it is called; and its id for stewards, where there is one of that name now.
    One(DatasetRef, Option<DatasetId>),
    /// Of one that nothing can be called.
    Nothing,
}

impl Of {
    fn has(&self, lease: &LedgerLease) -> bool {
        match self {
            Self::Any => true,
            Self::One(DatasetRef::Id(id), _) => lease.dataset == *id,
            // One that was retired has left its name to another, and its leases are still called by it.
            Self::One(DatasetRef::Name(name), None) => lease.dataset_name == *name,
            Self::One(DatasetRef::Name(name), Some(id)) => {
                lease.dataset == *id || lease.dataset_name == *name
            }
            Self::Nothing => false,
        }
    }
}

/// A part of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The caller's own leases in a state.
    Own(LeaseState),
    /// Other people's of the organisation's datasets.
    Stewarded(LeaseState),
}

impl Part {
    /// The parts that a caller sees.
    fn of(caller: &Caller, state: Option<LeaseState>, of: &Of) -> Vec<Self> {
        let wanted = || {
            STATES
                .into_iter()
                .filter(move |one| state.is_none_or(|state| state == *one))
        };
        let mut parts: Vec<_> = wanted().map(Self::Own).collect();
        if caller.is_steward() {
            // What is over is history: of one dataset only, and for who asks for it.
            let with_ended = state.is_some() && matches!(of, Of::One(..));
            let others = wanted().filter(|one| *one != LeaseState::Ended || with_ended);
            parts.extend(others.map(Self::Stewarded));
        }
        parts
    }

    fn state(self) -> LeaseState {
        match self {
            Self::Own(state) | Self::Stewarded(state) => state,
        }
    }

    fn cursor(self, after: &str) -> String {
        let whose = match self {
            Self::Own(_) => "own",
            Self::Stewarded(_) => "others",
        };
        format!("{whose}.{}.{after}", self.state().as_str())
    }

    /// How much of a cursor is left where it belongs to this part.
    fn after(self, cursor: &str) -> Option<&str> {
        cursor.strip_prefix(&self.cursor(""))
    }

    /// One page of it, from the index that has least beside it.
    async fn page(
        self,
        reading: &mut Reading,
        caller: &Caller,
        of: &Of,
        page: &PageRequest,
    ) -> Result<Page<LedgerLease>, ReadError> {
        match (self, of) {
            (Self::Own(state), _) => reading.leases_of(&caller.pseudonym, Some(state), page).await,
            (Self::Stewarded(LeaseState::Ended), Of::One(_, Some(id))) => reading.leases_on(id, page).await,
            (
                Self::Stewarded(LeaseState::Waiting | LeaseState::Active | LeaseState::Ending),
                Of::One(_, Some(id)),
            ) => Ok(Page {
                items: standing(reading, id, page.after.as_deref()).await?,
                next: None,
            }),
            (Self::Stewarded(state), Of::Any | Of::One(_, Some(_))) => reading.leases_in(state, page).await,
            (Self::Stewarded(_), Of::One(_, None) | Of::Nothing) => Ok(Page {
                items: Vec::new(),
                next: None,
            }),
        }
    }

    /// Where a lease is in the index that [`Part::page`] reads.
    fn key(self, of: &Of, lease: &LedgerLease) -> String {
        let (prefix, place) = match (self, of) {
            (Self::Stewarded(LeaseState::Ended), Of::One(_, Some(id))) => {
                (key::leases_of_dataset(id), key::lease_of_dataset(lease))
            }
            (Self::Stewarded(state), Of::Any) | (Self::Stewarded(state @ LeaseState::Requested), _) => {
                (key::leases_in_state(state), key::lease_in_state(lease))
            }
            _ => (String::new(), lease.id.to_string()),
        };
        place.strip_prefix(&prefix).unwrap_or_default().to_owned()
    }
}

/// Who has a dataset and who waits for it, by id; there are never more than its terms allow.
async fn standing(
    reading: &mut Reading,
    id: &DatasetId,
    after: Option<&str>,
) -> Result<Vec<LedgerLease>, ReadError> {
    let mut leases = reading.holders(id).await?;
    let entry = reading.dataset(&DatasetRef::Id(id.clone())).await?;
    for place in entry.into_iter().flat_map(|entry| entry.status.line) {
        leases.extend(reading.lease(&place.lease).await?);
    }
    leases.retain(|lease| after.is_none_or(|after| lease.id.as_str() > after));
    leases.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(leases)
}

async fn of(reading: &mut Reading, caller: &Caller, dataset: Option<&str>) -> Result<Of, ReadError> {
    let Some(dataset) = dataset else {
        return Ok(Of::Any);
    };
    let Ok(reference) = DatasetRef::parse(dataset) else {
        return Ok(Of::Nothing);
    };
    // The name alone finds a person's own leases; who may not read the catalogue learns nothing of what is in it.
    let id = match &reference {
        _ if !caller.is_steward() => None,
        DatasetRef::Id(id) => Some(id.clone()),
        DatasetRef::Name(_) => reading.dataset(&reference).await?.map(|entry| entry.dataset.id),
    };
    Ok(Of::One(reference, id))
}

/// `GET /v1/leases`: the caller's, and for a steward those of the organisation's datasets.
#[utoipa::path(
    get,
    path = "/leases",
    operation_id = "list_leases",
    summary = "The caller's leases, and for stewards those of their datasets that are not over, page by page",
    description = "The caller's own come first, by state: requested, waiting, active, ending, ended. Other people's that are over are listed \
                   with `state=ended` and a `dataset`. A page may have fewer items than `limit`, or none, and a `next`.",
    tag = "leases",
    params(Wanted, ("If-None-Match" = Option<String>, Header, description = "Tags of answers that the caller has")),
    responses((status = 200, description = "A page of leases", body = List<Lease>, headers(("ETag" = String, description = "Its tag"))), NotModified, ReadRefused)
)]
pub async fn list(
    State(broker): State<Arc<Broker>>,
    caller: Caller,
    had: IfNoneMatch,
    asked: Asked,
) -> Result<Response, ApiProblem> {
    let mut reading = broker.ledger.snapshot().await?;
    let of = of(&mut reading, &caller, asked.dataset.as_deref()).await?;
    let parts = Part::of(&caller, asked.state, &of);
    let seal = |cursor: &str| seal(&broker, &caller, asked.dataset.as_deref(), cursor);
    let (first, after) = match asked.page.after.as_deref().filter(|after| !after.is_empty()) {
        None => (0, None),
        Some(sealed) => unsealed(sealed, |cursor, given| {
            // Hashed once more: how long it takes to compare them says nothing of the right one.
            let hashed = |seal: &str| broker.ring.fingerprint(&[seal.as_bytes()]);
            hashed(&seal(cursor)) == hashed(given)
        })
        .and_then(|cursor| begin(&parts, cursor))
        .ok_or_else(|| ApiProblem::field("after", "expected the `next` of a page of this list"))?,
    };
    let (found, next) = walk(
        &broker,
        &caller,
        &mut reading,
        &of,
        &parts[..],
        (first, after),
        asked.page.limit,
    )
    .await?;
    let mut places = Places::default();
    let mut items = Vec::with_capacity(found.len());
    for lease in found {
        let place = places.of(&broker, &lease).await?;
        let yours = is_own(&broker, &caller, &lease);
        items.push(shown(lease, yours, place));
    }
    let next = next.map(|cursor| format!("{cursor}.{}", seal(&cursor)));
    had.content(&List::<Lease> { items, next })
}

/// What shows that a cursor is one that this caller was given for this list: with one of their own making a steward would step through an
/// index that has other organisations' leases.
fn seal(broker: &Broker, caller: &Caller, dataset: Option<&str>, cursor: &str) -> String {
    let dataset = dataset.unwrap_or_default();
    let parts = [
        "cursor of the list of leases",
        caller.pseudonym.as_str(),
        dataset,
        cursor,
    ];
    let mut seal = hex::encode(broker.ring.fingerprint(&parts.map(str::as_bytes)));
    seal.truncate(SEAL);
    seal
}

/// A cursor without its seal; none where that is not the right one.
fn unsealed(sealed: &str, is_right: impl Fn(&str, &str) -> bool) -> Option<&str> {
    let (cursor, given) = sealed.rsplit_once('.')?;
    is_right(cursor, given).then_some(cursor)
}

/// The part that a cursor belongs to, and from where on.
fn begin(parts: &[Part], cursor: &str) -> Option<(usize, Option<String>)> {
    parts.iter().enumerate().find_map(|(index, part)| {
        let after = part.after(cursor)?;
        Some((index, (!after.is_empty()).then(|| after.to_owned())))
    })
}

/// Up to `limit` leases from a place on, and the cursor of what follows.
async fn walk(
    broker: &Broker,
    caller: &Caller,
    reading: &mut Reading,
    of: &Of,
    parts: &[Part],
    (first, mut after): (usize, Option<String>),
    limit: usize,
) -> Result<(Vec<LedgerLease>, Option<String>), ApiProblem> {
    let (mut found, mut walked) = (Vec::new(), 0_usize);
    for part in parts.iter().skip(first) {
        let fits = |lease: &LedgerLease| {
            let own = is_own(broker, caller, lease);
            let visible = match part {
                Part::Own(_) => own,
                Part::Stewarded(_) => !own && lease.owner == broker.config.organisation,
            };
            visible && lease.state == part.state() && of.has(lease)
        };
        loop {
            if found.len() >= limit || walked >= MOST_WALKED {
                return Ok((found, Some(part.cursor(after.as_deref().unwrap_or_default()))));
            }
            let page = PageRequest {
                after: after.clone(),
                ..PageRequest::default()
            };
            let page = part.page(reading, caller, of, &page).await?;
            walked = walked.saturating_add(page.items.len());
            for lease in page.items {
                if found.len() >= limit {
                    return Ok((found, Some(part.cursor(after.as_deref().unwrap_or_default()))));
                }
                after = Some(part.key(of, &lease));
                if fits(&lease) {
                    found.push(lease);
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        after = None;
    }
    Ok((found, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_on_in_its_own_part_and_nowhere_else() {
        let parts = [Part::Own(LeaseState::Active), Part::Own(LeaseState::Ended)];
        for (index, part) in parts.iter().enumerate() {
            assert_eq!(
                begin(&parts, &part.cursor("00ff")),
                Some((index, Some("00ff".to_owned())))
            );
            assert_eq!(begin(&parts, &part.cursor("")), Some((index, None)));
        }
        let others = Part::Stewarded(LeaseState::Active).cursor("00ff");
        for cursor in [others.as_str(), "own", "own.active", "own.waiting.", "00ff", "."] {
            assert_eq!(begin(&parts, cursor), None, "{cursor}");
        }
    }

    #[test]
    fn a_cursor_with_another_seal_than_its_own_leads_nowhere() {
        let seal = |cursor: &str| format!("{:032x}", cursor.len());
        let sealed = format!("own.active.00ff.{}", seal("own.active.00ff"));
        let is_right = |cursor: &str, given: &str| seal(cursor) == given;
        assert_eq!(unsealed(&sealed, is_right), Some("own.active.00ff"));
        for forged in [
            "own.active.00ff",
            "own.active.00ff.",
            "own.active.00fff.0000000000000000000000000000000f",
            "",
        ] {
            assert_eq!(unsealed(forged, is_right), None, "{forged}");
        }
    }

    #[test]
    fn the_key_of_a_lease_is_its_cursor_in_the_index_that_is_read() {
        let lease = crate::expiry::tests::lease();
        let id = lease.dataset.clone();
        let one = Of::One(DatasetRef::Id(id.clone()), Some(id));
        let in_state = format!("{:020}/{}", lease.due_at_ms(), lease.id);
        let number = format!("{:020}", lease.number);
        let state = lease.state;
        for (part, of, expected) in [
            (Part::Own(state), &Of::Any, lease.id.as_str()),
            (Part::Stewarded(state), &Of::Any, in_state.as_str()),
            (Part::Stewarded(LeaseState::Ended), &one, number.as_str()),
            (Part::Stewarded(LeaseState::Waiting), &one, lease.id.as_str()),
        ] {
            assert_eq!(part.key(of, &lease), expected, "{part:?}");
        }
    }
}
