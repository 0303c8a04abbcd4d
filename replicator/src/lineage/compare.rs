//! Two lineage records side by side: a pure table, the twin of the agent's (`control/telamon/mirror/lineage.py`).
//!
//! Both are tested against every row of `tests/vectors/lineage.json`.

use super::{DataState, Generation, Lineage};

/// What two lineages are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Neither node holds data.
    Empty,
    /// Nothing to do.
    InStep,
    /// One side is behind.
    Partial,
    /// One side holds nothing usable.
    Full,
    /// Both wrote apart from each other.
    SplitBrain,
    /// The data never had a common origin.
    Unrelated,
}

/// From which side data may flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Ours,
    Theirs,
    /// Whoever is primary.
    Either,
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub relation: Relation,
    pub source: Source,
}

impl Comparison {
    /// The same answer as the peer gets it.
    #[must_use]
    pub fn mirrored(self) -> Comparison {
        let source = match self.source {
            Source::Ours => Source::Theirs,
            Source::Theirs => Source::Ours,
            other => other,
        };
        Comparison { source, ..self }
    }
}

/// Rows are tried in order; the first that fits decides.
#[must_use]
pub fn compare(ours: &Lineage, theirs: &Lineage) -> Comparison {
    let answer = |relation, source| Comparison { relation, source };
    match (
        ours.generation == Generation::NONE,
        theirs.generation == Generation::NONE,
    ) {
        (true, true) => return answer(Relation::Empty, Source::Nobody),
        (false, true) => return answer(Relation::Full, Source::Ours),
        (true, false) => return answer(Relation::Full, Source::Theirs),
        (false, false) => {}
    }
    if ours.generation == theirs.generation {
        return compare_equal(ours, theirs);
    }
    if !known(ours).any(|generation| known(theirs).any(|other| other == generation)) {
        return answer(Relation::Unrelated, Source::Nobody);
    }
    compare_apart(ours, theirs)
}

/// Equal generations: the better data state is the source; equal ones differ by a crash.
fn compare_equal(ours: &Lineage, theirs: &Lineage) -> Comparison {
    let is_unusable = [ours, theirs]
        .iter()
        .any(|side| side.data_state == DataState::Inconsistent);
    let relation = if is_unusable {
        Relation::Full
    } else {
        Relation::Partial
    };
    // DataState is ordered from good to bad.
    match ours.data_state.cmp(&theirs.data_state) {
        std::cmp::Ordering::Less => Comparison {
            relation,
            source: Source::Ours,
        },
        std::cmp::Ordering::Greater => Comparison {
            relation,
            source: Source::Theirs,
        },
        std::cmp::Ordering::Equal => {
            let is_clean = ours.is_clean && theirs.is_clean;
            let in_step = is_clean && ours.data_state == DataState::UpToDate;
            let relation = if in_step { Relation::InStep } else { relation };
            Comparison {
                relation,
                source: Source::Either,
            }
        }
    }
}

/// Different generations of one origin: a side whose generation the other has passed is behind.
fn compare_apart(ours: &Lineage, theirs: &Lineage) -> Comparison {
    let ours_unusable = ours.data_state == DataState::Inconsistent;
    let theirs_unusable = theirs.data_state == DataState::Inconsistent;
    if ours_unusable != theirs_unusable {
        let source = if ours_unusable {
            Source::Theirs
        } else {
            Source::Ours
        };
        return Comparison {
            relation: Relation::Full,
            source,
        };
    }
    let relation = if ours_unusable {
        Relation::Full
    } else {
        Relation::Partial
    };
    let ours_is_behind = passed(theirs).any(|generation| generation == ours.generation);
    let theirs_is_behind = passed(ours).any(|generation| generation == theirs.generation);
    match (ours_is_behind, theirs_is_behind) {
        (true, false) => Comparison {
            relation,
            source: Source::Theirs,
        },
        (false, true) => Comparison {
            relation,
            source: Source::Ours,
        },
        _ => Comparison {
            relation: Relation::SplitBrain,
            source: Source::Nobody,
        },
    }
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
        rows: Vec<Row>,
    }

    #[derive(Deserialize)]
    struct Row {
        name: String,
        ours: Lineage,
        theirs: Lineage,
        relation: String,
        source: String,
    }

    fn expected(row: &Row) -> Comparison {
        let relation = match row.relation.as_str() {
            "empty" => Relation::Empty,
            "in_step" => Relation::InStep,
            "partial" => Relation::Partial,
            "full" => Relation::Full,
            "split_brain" => Relation::SplitBrain,
            "unrelated" => Relation::Unrelated,
            other => panic!("relation {other:?} does not exist"),
        };
        let source = match row.source.as_str() {
            "ours" => Source::Ours,
            "theirs" => Source::Theirs,
            "either" => Source::Either,
            "none" => Source::Nobody,
            other => panic!("source {other:?} does not exist"),
        };
        Comparison { relation, source }
    }

    #[test]
    fn every_row_of_the_shared_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/lineage.json");
        let vectors: Vectors = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(
            vectors.rows.len() >= 20,
            "the table shrank to {} rows",
            vectors.rows.len()
        );
        for row in &vectors.rows {
            assert_eq!(
                compare(&row.ours, &row.theirs),
                expected(row),
                "{}",
                row.name
            );
            let mirrored = expected(row).mirrored();
            assert_eq!(
                compare(&row.theirs, &row.ours),
                mirrored,
                "{}, mirrored",
                row.name
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
        assert_eq!(alone.peer_generation, Generation::NONE);
        let target = Lineage::default().overwritten();
        assert_eq!(compare(&alone, &target).source, Source::Ours);

        let primary = alone.in_step();
        let secondary = target.brought_up(&primary);
        assert_eq!(compare(&primary, &secondary).relation, Relation::Partial);
        let (left, right) = (primary.with_clean(true), secondary.with_clean(true));
        assert_eq!(compare(&left, &right).relation, Relation::InStep);

        let successor = secondary.promoted(Generation(3)).granted(Generation(4));
        assert_eq!(successor.peer_generation, Generation(2));
        let behind = Comparison {
            relation: Relation::Partial,
            source: Source::Theirs,
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
