//! Verification of a secondary that follows live: what differs, and stays different.
//!
//! Under writes the two trees are never looked at in the same moment. So what differs at the first look is only suspected. It is looked
//! at again after everything that the primary had appended was applied here. A suspicion is confirmed when the primary shows the same at
//! several looks in a row and this node something else at each of them: had it followed, it would be equal by then. What
//! differs at every look but also changes on the primary in between is counted as *changing*: it is being written to, so the log
//! brings it, and nothing is said of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::walk::{Counts, Visit};
use super::{Aspect, Difference, Enough, SurveyError, Surveyor};
use crate::record::{FileId, Lsn};

/// Looks at which a suspect must be the same, after the first one.
const CONFIRMATIONS: u32 = 2;
/// Looks after the first one, at most.
const LOOKS: u32 = 6;
/// Between two looks: the modification time of an open file follows a second late.
const SPACING: Duration = Duration::from_millis(1200);
/// Suspects that are remembered; whoever has more needs a resynchronisation, not a list.
const SUSPECTS_MAX: usize = 1 << 16;

/// What is suspected: tree, path, aspect, block.
type Suspect = (usize, Vec<u8>, Aspect, u64);

#[derive(Clone, Copy)]
struct Suspicion {
    fingerprint: [u8; 32],
    confirmations: u32,
}

/// What is known of one object at the end.
#[derive(Default)]
struct Verdict {
    differs: Option<Aspect>,
    is_changing: bool,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub files: u64,
    pub bytes: u64,
    /// Tree, path and the first aspect of every object that differs, in order.
    pub differing: Vec<(usize, Vec<u8>, Aspect)>,
    /// Objects that changed at every look.
    pub changing: u64,
}

/// What the verification needs of the session beside it.
pub trait Beside {
    /// Waits until the log is applied here up to that position. False if the session is another one, or it takes too long.
    fn await_applied(&self, log: u64, last: Lsn) -> bool;
    /// Waits. True if the verification shall end.
    fn pause(&self, time: Duration) -> bool;
    /// So much is compared.
    fn counted(&self, counts: Counts);
}

/// Compares everything below the roots.
pub fn verify(
    surveyor: &mut Surveyor<'_>,
    roots: &[FileId],
    beside: &dyn Beside,
) -> Result<Findings, SurveyError> {
    let mut suspects: HashMap<Suspect, Suspicion> = HashMap::new();
    let mut again: HashSet<Visit> = HashSet::new();
    let mut pending = surveyor.roots(roots);
    while let Some(visit) = pending.pop() {
        let found = look(surveyor, &visit)?;
        pending.extend(found.inner);
        if !found.suspects.is_empty() && suspects.len() < SUSPECTS_MAX {
            again.insert(visit);
            suspects.extend(found.suspects);
        }
        beside.counted(surveyor.counts);
    }
    let counts = surveyor.counts;
    for _ in 0..LOOKS {
        let is_open = |suspicion: &Suspicion| suspicion.confirmations < CONFIRMATIONS;
        if !suspects.values().any(is_open) {
            break;
        }
        let (log, last) = surveyor.position()?;
        if beside.pause(SPACING) {
            return Err(SurveyError::Stopped);
        }
        if !beside.await_applied(log, last) {
            continue;
        }
        let mut now = HashMap::new();
        for visit in &again {
            now.extend(look(surveyor, visit)?.suspects);
        }
        suspects = judge(&suspects, now);
    }
    Ok(conclude(&suspects, counts.files, counts.bytes))
}

struct Look {
    inner: Vec<Visit>,
    suspects: Vec<(Suspect, Suspicion)>,
}

fn look(surveyor: &mut Surveyor<'_>, visit: &Visit) -> Result<Look, SurveyError> {
    let mut suspects = Vec::new();
    let inner = surveyor.visit(visit, &mut |difference: &Difference<'_>| {
        let suspect = (
            difference.tree,
            difference.path.to_vec(),
            difference.aspect,
            difference.block,
        );
        let suspicion = Suspicion {
            fingerprint: difference.fingerprint,
            confirmations: 0,
        };
        suspects.push((suspect, suspicion));
        Ok(Enough::No)
    })?;
    Ok(Look { inner, suspects })
}

/// What is still suspected, and what of it is the same as before. Pure.
fn judge(
    before: &HashMap<Suspect, Suspicion>,
    now: HashMap<Suspect, Suspicion>,
) -> HashMap<Suspect, Suspicion> {
    let still = now.into_iter().filter_map(|(suspect, found)| {
        let known = before.get(&suspect)?;
        let is_same = known.fingerprint == found.fingerprint;
        let confirmations = if is_same { known.confirmations + 1 } else { 0 };
        Some((
            suspect,
            Suspicion {
                confirmations,
                ..found
            },
        ))
    });
    still.collect()
}

fn conclude(suspects: &HashMap<Suspect, Suspicion>, files: u64, bytes: u64) -> Findings {
    let mut objects: BTreeMap<(usize, &[u8]), Verdict> = BTreeMap::new();
    for ((tree, path, aspect, _), suspicion) in suspects {
        let object = objects.entry((*tree, path)).or_default();
        if suspicion.confirmations >= CONFIRMATIONS {
            let first = object.differs.map_or(*aspect, |other| other.min(*aspect));
            object.differs = Some(first);
        } else {
            object.is_changing = true;
        }
    }
    let mut findings = Findings {
        files,
        bytes,
        ..Findings::default()
    };
    for ((tree, path), verdict) in objects {
        if let Some(aspect) = verdict.differs {
            findings.differing.push((tree, path.to_vec(), aspect));
        } else if verdict.is_changing {
            findings.changing += 1;
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspects(list: &[(&str, u8)]) -> HashMap<Suspect, Suspicion> {
        let one = |(path, mark): &(&str, u8)| {
            let suspect = (0, path.as_bytes().to_vec(), Aspect::Content, 0);
            let suspicion = Suspicion {
                fingerprint: [*mark; 32],
                confirmations: 0,
            };
            (suspect, suspicion)
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn only_what_stays_the_same_and_different_is_told() {
        let mut all = suspects(&[("damaged", 1), ("late", 2), ("busy", 3)]);
        for look in 0..3 {
            let now = suspects(&[("damaged", 1), ("busy", 4 + look), ("new", 9)]);
            all = judge(&all, now);
        }
        let findings = conclude(&all, 10, 20);
        assert_eq!(
            findings.differing,
            [(0, b"damaged".to_vec(), Aspect::Content)]
        );
        assert_eq!((findings.changing, findings.files), (1, 10));
    }

    #[test]
    fn one_look_confirms_nothing() {
        let all = suspects(&[("suspect", 1)]);
        let once = judge(&all, suspects(&[("suspect", 1)]));
        assert!(conclude(&once, 0, 0).differing.is_empty());
        let twice = judge(&once, suspects(&[("suspect", 1)]));
        assert_eq!(conclude(&twice, 0, 0).differing.len(), 1);
    }
}
