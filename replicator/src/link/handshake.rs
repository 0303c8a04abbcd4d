//! What a session may be, decided from the two hellos: a pure table on top of the lineage comparison.
//!
//! Both sides decide; a session starts only if they agree. So neither a primary with old data overwrites a newer peer, nor does a
//! secondary let itself be overwritten because the other side misread a record.

use crate::lineage::{Comparison, DataState, Relation, Role, Source, compare};
use crate::wire::{Hello, Intent, Refusal, StartMode};

/// A refused session: the code and one sentence with the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: Refusal,
    pub message: String,
}

impl Refused {
    #[must_use]
    pub fn new(code: Refusal, message: String) -> Refused {
        Refused { code, message }
    }
}

/// What the primary still has for the secondary that calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Continuity {
    /// Everything behind the secondary's position of the same log.
    pub can_resume: bool,
    /// The identities of all objects as they were at the log's first position, and the log from there on.
    pub can_bind: bool,
}

/// The primary's answer to a secondary.
pub fn answer(
    own: &Hello,
    peer: &Hello,
    peer_node: &str,
    continuity: Continuity,
) -> Result<StartMode, Refused> {
    introduce(own, peer, peer_node)?;
    if own.role != Role::Primary {
        return Err(Refused::new(
            Refusal::NotPrimary,
            format!("{} is not primary", own.node),
        ));
    }
    if peer.role != Role::Secondary {
        return Err(Refused::new(
            Refusal::Stranger,
            format!("{} dials, but is not secondary", peer.node),
        ));
    }
    if peer.intent == Intent::Survey {
        return Ok(StartMode::Survey);
    }
    let is_same_line = own.lineage.generation == peer.lineage.generation
        && peer.lineage.data_state == DataState::UpToDate;
    if continuity.can_resume && is_same_line && peer.log == own.log {
        return Ok(StartMode::Resume);
    }
    let comparison = compare(&own.lineage, &peer.lineage);
    permit(own, peer, comparison, peer.intent == Intent::Discard)?;
    if comparison.relation == Relation::InStep && continuity.can_bind {
        return Ok(StartMode::Bind);
    }
    Ok(StartMode::Resync)
}

/// The secondary's check of the primary's hello and the mode it chose.
pub fn agree(
    own: &Hello,
    primary: &Hello,
    peer_node: &str,
    mode: StartMode,
) -> Result<(), Refused> {
    introduce(own, primary, peer_node)?;
    if primary.role != Role::Primary {
        return Err(Refused::new(
            Refusal::NotPrimary,
            format!("{} is not primary", primary.node),
        ));
    }
    let comparison = compare(&primary.lineage, &own.lineage);
    let is_sound = match mode {
        StartMode::Resume => {
            primary.lineage.generation == own.lineage.generation
                && own.lineage.data_state == DataState::UpToDate
                && own.log == primary.log
        }
        StartMode::Bind => comparison.relation == Relation::InStep,
        StartMode::Resync => {
            return permit(primary, own, comparison, own.intent == Intent::Discard);
        }
        StartMode::Survey => own.intent == Intent::Survey,
    };
    if is_sound {
        return Ok(());
    }
    let message = format!(
        "{} continues a log that {} does not follow",
        primary.node, own.node
    );
    Err(Refused::new(Refusal::Protocol, message))
}

/// Whether `own` data would be lost by following `primary` that the lineages do not give up.
#[must_use]
pub fn gives_up(primary: &Hello, own: &Hello) -> bool {
    let comparison = compare(&primary.lineage, &own.lineage);
    permit(primary, own, comparison, false).is_err()
}

/// Whether data may flow from `primary` to `secondary`. `comparison` is as the primary sees it.
fn permit(
    primary: &Hello,
    secondary: &Hello,
    comparison: Comparison,
    discards: bool,
) -> Result<(), Refused> {
    let (from, to, module) = (&primary.node, &secondary.node, &primary.module);
    let is_in_step = comparison.relation == Relation::InStep;
    let may_flow = matches!(comparison.source, Some(Source::Ours | Source::Either));
    if is_in_step || may_flow || discards {
        return Ok(());
    }
    Err(match comparison.relation {
        Relation::SplitBrain => Refused::new(
            Refusal::SplitBrain,
            format!(
                "split brain: {from} and {to} both changed {module} while they were apart; nothing is overwritten until you \
                 choose: run `telamon module second {module}` on the node whose changes shall be given up; they are kept aside"
            ),
        ),
        Relation::Unrelated => Refused::new(
            Refusal::Unrelated,
            format!(
                "the data of {module} on {from} and {to} has no common origin; nothing is overwritten until you choose: run \
                 `telamon module second {module}` on the node whose data shall be replaced; it is kept aside"
            ),
        ),
        _ => Refused::new(
            Refusal::PrimaryIsBehind,
            format!(
                "{to} has newer data of {module} than the primary {from}: run `telamon module swap {module}`, or give the \
                 newer data up with `telamon module second {module}` on {to}, where it is kept aside"
            ),
        ),
    })
}

/// Whether both mean the same module of the same cluster, and each is the other's peer.
fn introduce(own: &Hello, peer: &Hello, peer_node: &str) -> Result<(), Refused> {
    let stranger = |message| Err(Refused::new(Refusal::Stranger, message));
    if peer.cluster != own.cluster {
        return stranger(format!("{} belongs to another cluster", peer.node));
    }
    if peer.module != own.module {
        return stranger(format!(
            "{} speaks of module {}, {} of {}",
            peer.node, peer.module, own.node, own.module
        ));
    }
    if peer.node != peer_node {
        return stranger(format!(
            "{} is not the peer of {}, {peer_node} is",
            peer.node, own.node
        ));
    }
    if peer.trees != own.trees {
        return stranger(format!(
            "{} replicates {} directories of {}, {} {}: install the same configuration on both nodes",
            peer.node, peer.trees, own.module, own.node, own.trees
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lineage::{Generation, Lineage};
    use crate::record::Lsn;

    fn hello(node: &str, role: Role, lineage: Lineage) -> Hello {
        Hello {
            cluster: "c".into(),
            module: "m".into(),
            node: node.into(),
            role,
            trees: 1,
            wants_durable: true,
            intent: Intent::Follow,
            log: 7,
            applied: Lsn(3),
            lineage,
        }
    }

    fn in_step() -> Lineage {
        Lineage::default().promoted(Generation(1)).in_step()
    }

    fn both(primary: Lineage, secondary: Lineage) -> (Hello, Hello) {
        (
            hello("n1", Role::Primary, primary),
            hello("n2", Role::Secondary, secondary),
        )
    }

    /// What the primary answers, once the secondary agreed to it.
    fn outcome(
        primary: &Hello,
        secondary: &Hello,
        continuity: Continuity,
    ) -> Result<StartMode, Refusal> {
        let mode = answer(primary, secondary, "n2", continuity).map_err(|refused| refused.code)?;
        agree(secondary, primary, "n1", mode).map_err(|refused| refused.code)?;
        Ok(mode)
    }

    const RESUME: Continuity = Continuity {
        can_resume: true,
        can_bind: false,
    };
    const BIND: Continuity = Continuity {
        can_resume: false,
        can_bind: true,
    };
    const NOTHING: Continuity = Continuity {
        can_resume: false,
        can_bind: false,
    };

    #[test]
    fn a_broken_session_resumes_only_on_the_same_line() {
        let (primary, secondary) = both(in_step(), in_step());
        assert_eq!(outcome(&primary, &secondary, RESUME), Ok(StartMode::Resume));
        let other_log = Hello {
            log: 8,
            ..secondary.clone()
        };
        assert_eq!(outcome(&primary, &other_log, RESUME), Ok(StartMode::Resync));
        let outdated = Hello {
            lineage: in_step().outdated(),
            ..secondary.clone()
        };
        assert_eq!(outcome(&primary, &outdated, RESUME), Ok(StartMode::Resync));
        let granted = Hello {
            lineage: in_step().granted(Generation(2)),
            ..primary
        };
        assert_eq!(outcome(&granted, &secondary, RESUME), Ok(StartMode::Resync));
    }

    #[test]
    fn identities_are_enough_only_between_clean_nodes() {
        let clean = in_step().with_clean(true);
        let (primary, secondary) = both(clean.clone(), clean.clone());
        assert_eq!(outcome(&primary, &secondary, BIND), Ok(StartMode::Bind));
        assert_eq!(
            outcome(&primary, &secondary, NOTHING),
            Ok(StartMode::Resync)
        );
        let (primary, secondary) = both(clean, in_step());
        assert_eq!(outcome(&primary, &secondary, BIND), Ok(StartMode::Resync));
    }

    #[test]
    fn newer_split_and_unrelated_data_is_never_overwritten_unasked() {
        let base = in_step();
        let cases = [
            (
                base.clone(),
                base.granted(Generation(2)),
                Refusal::PrimaryIsBehind,
            ),
            (
                base.granted(Generation(2)),
                base.granted(Generation(3)),
                Refusal::SplitBrain,
            ),
            (
                base.clone(),
                Lineage::default().promoted(Generation(9)),
                Refusal::Unrelated,
            ),
        ];
        for (ours, theirs, code) in cases {
            let (primary, secondary) = both(ours, theirs);
            assert_eq!(outcome(&primary, &secondary, NOTHING), Err(code));
            // The secondary refuses by itself, should the primary have misread.
            assert_eq!(
                agree(&secondary, &primary, "n1", StartMode::Resync)
                    .unwrap_err()
                    .code,
                code
            );
            assert!(gives_up(&primary, &secondary));
            let surveying = Hello {
                intent: Intent::Survey,
                ..secondary.clone()
            };
            assert_eq!(
                outcome(&primary, &surveying, NOTHING),
                Ok(StartMode::Survey)
            );
            let discarding = Hello {
                intent: Intent::Discard,
                ..secondary
            };
            assert_eq!(
                outcome(&primary, &discarding, NOTHING),
                Ok(StartMode::Resync)
            );
        }
    }

    #[test]
    fn strangers_are_refused_by_both() {
        let (primary, secondary) = both(in_step(), in_step());
        let strangers = [
            Hello {
                cluster: "other".into(),
                ..secondary.clone()
            },
            Hello {
                module: "other".into(),
                ..secondary.clone()
            },
            Hello {
                node: "n3".into(),
                ..secondary.clone()
            },
            Hello {
                trees: 2,
                ..secondary.clone()
            },
            Hello {
                role: Role::Idle,
                ..secondary.clone()
            },
        ];
        for stranger in strangers {
            assert_eq!(
                answer(&primary, &stranger, "n2", RESUME).unwrap_err().code,
                Refusal::Stranger
            );
        }
        let not_primary = Hello {
            role: Role::Secondary,
            ..primary.clone()
        };
        assert_eq!(
            answer(&not_primary, &secondary, "n2", RESUME)
                .unwrap_err()
                .code,
            Refusal::NotPrimary
        );
        let other = Hello {
            cluster: "other".into(),
            ..primary
        };
        assert_eq!(
            agree(&secondary, &other, "n1", StartMode::Resume)
                .unwrap_err()
                .code,
            Refusal::Stranger
        );
    }
}
