//! Two lineage records side by side: a pure table, the twin of the agent's (`control/telamon/mirror/lineage.py`).
//!
//! Both are tested against every row of `tests/vectors/lineage.json`.

use super::{DataState, Generation, Lineage, Role};

/// What two lineages are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Nothing to do.
    InStep,
    /// One side is behind by what changed since they were last in step.
    Partial,
    /// One side holds nothing usable, or something older than that.
    Full,
    /// Both wrote apart from each other.
    SplitBrain,
    /// The data never had a common origin.
    Unrelated,
    /// Neither side is fit to be the source.
    NoSource,
}

/// From which side data may flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Ours,
    Theirs,
    /// Whoever is or becomes primary.
    Either,
}

/// Without a source nothing is overwritten unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub relation: Relation,
    pub source: Option<Source>,
}

impl Comparison {
    fn from(relation: Relation, source: Source) -> Comparison {
        Comparison {
            relation,
            source: Some(source),
        }
    }

    fn without_source(relation: Relation) -> Comparison {
        Comparison {
            relation,
            source: None,
        }
    }

    /// The same answer as the peer gets it.
    #[must_use]
    pub fn mirrored(self) -> Comparison {
        let source = self.source.map(|source| match source {
            Source::Ours => Source::Theirs,
            Source::Theirs => Source::Ours,
            Source::Either => Source::Either,
        });
        Comparison { source, ..self }
    }
}

/// Rules are tried in order; the first that fits decides.
#[must_use]
pub fn compare(ours: &Lineage, theirs: &Lineage) -> Comparison {
    match (is_usable(ours), is_usable(theirs)) {
        (false, false) => Comparison::without_source(Relation::NoSource),
        (true, false) => Comparison::from(Relation::Full, Source::Ours),
        (false, true) => Comparison::from(Relation::Full, Source::Theirs),
        (true, true) if ours.generation == theirs.generation => compare_equal(ours, theirs),
        (true, true) => compare_apart(ours, theirs),
    }
}

fn is_usable(record: &Lineage) -> bool {
    record.generation != Generation::NONE && record.data_state != DataState::Inconsistent
}

/// Equal generations differ by a mark or a crash; the former primary is the better source.
fn compare_equal(ours: &Lineage, theirs: &Lineage) -> Comparison {
    let side = |is_ours| {
        if is_ours {
            Source::Ours
        } else {
            Source::Theirs
        }
    };
    match (ours.data_state, theirs.data_state) {
        (DataState::UpToDate, DataState::UpToDate) => {}
        (DataState::UpToDate, _) => return Comparison::from(Relation::Partial, Source::Ours),
        (_, DataState::UpToDate) => return Comparison::from(Relation::Partial, Source::Theirs),
        _ => return Comparison::without_source(Relation::NoSource),
    }
    let counts_behind = |record: &Lineage| record.peer_generation != Generation::NONE;
    if counts_behind(ours) != counts_behind(theirs) {
        return Comparison::from(Relation::Partial, side(counts_behind(ours)));
    }
    if ours.is_clean && theirs.is_clean {
        return Comparison::without_source(Relation::InStep);
    }
    let was_primary = |record: &Lineage| record.role_at_shutdown == Role::Primary;
    if was_primary(ours) == was_primary(theirs) {
        return Comparison::from(Relation::Partial, Source::Either);
    }
    Comparison::from(Relation::Partial, side(was_primary(ours)))
}

/// Different generations: a side whose generation the other has passed is behind.
fn compare_apart(ours: &Lineage, theirs: &Lineage) -> Comparison {
    let ours_is_behind = passed(theirs).any(|generation| generation == ours.generation);
    let theirs_is_behind = passed(ours).any(|generation| generation == theirs.generation);
    match (ours_is_behind, theirs_is_behind) {
        (true, false) => return behind(ours, theirs).mirrored(),
        (false, true) => return behind(theirs, ours),
        _ => {}
    }
    let has_common_origin =
        known(ours).any(|generation| known(theirs).any(|other| other == generation));
    Comparison::without_source(if has_common_origin {
        Relation::SplitBrain
    } else {
        Relation::Unrelated
    })
}

/// Only what changed since the last step in common is known; an older copy needs everything.
fn behind(older: &Lineage, newer: &Lineage) -> Comparison {
    let is_known = older.generation == newer.peer_generation;
    Comparison::from(
        if is_known {
            Relation::Partial
        } else {
            Relation::Full
        },
        Source::Ours,
    )
}

/// Generations which that node held and left behind.
fn passed(record: &Lineage) -> impl Iterator<Item = Generation> + '_ {
    let candidates = record
        .history
        .iter()
        .copied()
        .chain([record.peer_generation]);
    candidates
        .filter(|&generation| generation != Generation::NONE && generation != record.generation)
}

fn known(record: &Lineage) -> impl Iterator<Item = Generation> + '_ {
    passed(record).chain([record.generation])
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        compare: Vec<Row>,
    }

    #[derive(Deserialize)]
    struct Row {
        why: String,
        own: Lineage,
        peer: Lineage,
        verdict: String,
        source: Option<String>,
    }

    fn expected(row: &Row) -> Comparison {
        let relation = match row.verdict.as_str() {
            "in_step" => Relation::InStep,
            "partial" => Relation::Partial,
            "full" => Relation::Full,
            "split_brain" => Relation::SplitBrain,
            "unrelated" => Relation::Unrelated,
            "no_source" => Relation::NoSource,
            other => panic!("verdict {other:?} does not exist"),
        };
        let source = row.source.as_deref().map(|source| match source {
            "own" => Source::Ours,
            "peer" => Source::Theirs,
            "either" => Source::Either,
            other => panic!("source {other:?} does not exist"),
        });
        Comparison { relation, source }
    }

    #[test]
    fn every_row_of_the_shared_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/lineage.json");
        let vectors: Vectors = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(
            vectors.compare.len() >= 30,
            "only {} rows",
            vectors.compare.len()
        );
        for row in &vectors.compare {
            assert_eq!(compare(&row.own, &row.peer), expected(row), "{}", row.why);
            let mirrored = expected(row).mirrored();
            assert_eq!(
                compare(&row.peer, &row.own),
                mirrored,
                "{}, mirrored",
                row.why
            );
        }
    }

    /// The life of two nodes as transitions of their records: each step's comparison is what the step means.
    #[test]
    fn transitions_agree_with_the_table() {
        let primary = Lineage::default().promoted(Generation(1));
        assert_eq!(
            compare(&primary, &Lineage::default()).relation,
            Relation::Full
        );
        let alone = primary.granted(Generation(2));
        assert_eq!(alone.peer_generation, Generation(1));
        let target = Lineage::default().overwritten();
        assert_eq!(compare(&alone, &target).source, Some(Source::Ours));

        let primary = alone.in_step();
        let secondary = target.brought_up(&primary);
        assert_eq!(compare(&primary, &secondary).relation, Relation::Partial);
        let (left, right) = (primary.with_clean(true), secondary.with_clean(true));
        assert_eq!(compare(&left, &right).relation, Relation::InStep);

        let successor = secondary.promoted(Generation(3)).granted(Generation(4));
        assert_eq!(successor.peer_generation, Generation(2));
        let behind = Comparison {
            relation: Relation::Partial,
            source: Some(Source::Theirs),
        };
        assert_eq!(compare(&primary, &successor), behind);
        assert_eq!(compare(&primary.outdated(), &successor), behind);
        let rival = primary.granted(Generation(5));
        assert_eq!(compare(&rival, &successor).relation, Relation::SplitBrain);
    }

    #[test]
    fn outdating_never_improves_inconsistent_data() {
        let target = Lineage::default().promoted(Generation(1)).overwritten();
        assert_eq!(target.outdated(), target);
    }
}
